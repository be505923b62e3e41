# Reference values for p-uniform* and p-uniform, and data for z-curve: p_values.json, read by
# tests/reference/test_p_values.py and tests/published/test_z_curve_printed.py.
# Run with R 4.2.2, metafor 3.8-1, metadat 1.2-0 and the R code of puniform 0.2.8 (github.com/RobbievanAert/puniform,
# 620c297):  Rscript make_p_values.R
# puni_star stops its searches at four or five digits; here its own likelihood, ml_star, is searched to the end.
suppressPackageStartupMessages({library(metafor); library(metadat)})
if (!exists("ml_star")) library(puniform)
star <- function(y, v) {
  cut <- qnorm(.975) * sqrt(v)
  ll <- function(mu, tau) ml_star(c(mu, tau), yi = y, vi = v, ycv = cut)
  top <- list(objective = Inf)
  for (tau in c(0, .02, .1)) {
    one <- nlminb(c(mean(y), tau), function(p) -ll(p[1], p[2]), lower = c(-Inf, 0),
                  control = list(rel.tol = 1e-15, x.tol = 1e-12, iter.max = 1000, eval.max = 2000))
    if (one$objective < top$objective) top <- one
  }
  best <- -top$objective
  over_tau <- function(mu) max(ll(mu, 0), optimize(function(t) ll(mu, t), c(0, 1), maximum = TRUE, tol = 1e-9)$objective)
  over_mu <- function(tau) optimize(function(m) ll(m, tau), c(-2, 2), maximum = TRUE, tol = 1e-9)$objective
  drop <- qchisq(.95, 1) / 2
  root <- function(f, a, b) uniroot(f, c(a, b), tol = 1e-12)$root
  mu <- top$par[1]; tau <- top$par[2]
  low <- if (over_mu(0) > best - drop) 0 else root(function(t) over_mu(t) - best + drop, 0, tau)
  list(mu = mu, tau2 = tau^2, loglik = best,
       ci_lb = root(function(m) over_tau(m) - best + drop, mu - 1, mu),
       ci_ub = root(function(m) over_tau(m) - best + drop, mu, mu + 1),
       tau2_lb = low^2, tau2_ub = root(function(t) over_mu(t) - best + drop, tau, 1)^2,
       stat = 2 * (best - over_tau(0)), stat_tau2 = 2 * (best - over_mu(0)))
}
original <- function(y, v) {
  x <- puniform(yi = y, vi = v, side = "right", method = "P")
  list(mu = x$est, ci_lb = x$ci.lb, ci_ub = x$ci.ub, stat = x$L.0, pval = x$pval.0, stat_bias = x$L.pb, pval_bias = x$pval.pb)
}
json <- function(x) if (is.list(x)) paste0("{", paste0('"', names(x), '": ', sapply(x, json), collapse = ", "), "}") else
  if (length(x) > 1) paste0("[", paste(sapply(x, json), collapse = ", "), "]") else sprintf("%.15g", x)

mccall <- list(ri = c(.61, .43, .29, .55, .60, .54, .29, .46, .52, .40, .39, .39),
               ni = c(11, 21, 91, 18, 28, 14, 96, 20, 22, 57, 29, 40))
molloy <- escalc(measure = "ZCOR", ri = ri, ni = ni, data = dat.molloy2014)
mcdaniel <- escalc(measure = "ZCOR", ri = ri, ni = ni, data = dat.mcdaniel1994)
sets <- list(mccall1993 = list(yi = atanh(mccall$ri), vi = 1 / (mccall$ni - 3)),
             molloy2014 = list(yi = as.numeric(molloy$yi), vi = as.numeric(molloy$vi)),
             mcdaniel1994 = list(yi = as.numeric(mcdaniel$yi), vi = as.numeric(mcdaniel$vi)))
out <- lapply(sets, function(d) list(star = star(d$yi, d$vi), original = original(d$yi, d$vi)))
# With equal standard errors p-uniform* is the selection model with one step.
y <- c(.05, .12, -.08, .31, .28, .4, .22, .35, .26, .18, .02, .33, .29, .45, .1)
fit <- selmodel(rma(y, rep(.0125, 15), method = "ML"), type = "stepfun", steps = .025, alternative = "greater",
                control = list(optimizer = "BFGS", reltol = 1e-15))
out$equal <- list(yi = y, vi = .0125, mu = as.numeric(fit$beta), se = as.numeric(fit$se), tau2 = fit$tau2, ll = fit$ll)
# The data of zcurve's own test of dependent z values (tests/testthat/test-zcurve.R); its results are in the Python test.
set.seed(1)
z <- abs(c(rnorm(300, 3, 1), rnorm(200, 1, 1)))
out$clustered <- list(z = round(z, 7), id = sample(500, 500, TRUE))
writeLines(json(out), "p_values.json")

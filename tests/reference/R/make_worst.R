# Worst case, s-values, right-truncated meta-analysis, bound of unpublished studies, excess significance.
# R 4.2.2, metafor 3.8.1, robumeta 2.1, metadat 1.2.0. Run in this folder: Rscript make_worst.R meta_meat.csv money.csv
# The two files are meta_meat of the package multibiasmeta 0.2.2 and money_priming_meta of phacking 0.2.1 (both MIT).
suppressMessages({library(metafor); library(robumeta); library(jsonlite)})
files <- commandArgs(TRUE)
meat <- read.csv(files[1]); money <- head(read.csv(files[2]), 50)
tight <- list(threshold = 1e-14, maxiter = 10000)

# As PublicationBias::pubbias_meta(model_type = "robust") does it.
pubbias <- function(d, eta, sign = 1) {
  tau2 <- rma(yi, vi, data = d, control = tight)$tau2
  affirm <- 2 * pnorm(-abs(d$yi) / sqrt(d$vi)) < .05 & sign * d$yi > 0
  if (is.infinite(eta)) { d <- d[!affirm, ]; affirm <- affirm[!affirm]; eta <- 1 }
  d$w <- ifelse(affirm, 1, eta) / (d$vi + tau2)
  x <- robu(yi ~ 1, data = d, studynum = d$cluster, userweights = d$w, var.eff.size = vi, small = TRUE)$reg_table
  list(estimate = x$b.r, se = x$SE, df = x$dfs, pval = x$prob, ci_lb = x$CI.L, ci_ub = x$CI.U)
}
curve <- function(d, sign) lapply(list(1, 2, 5, 50, Inf), function(eta)
  c(list(ratio = if (is.infinite(eta)) "Inf" else eta), pubbias(d, eta, sign)))
svalue <- function(f) uniroot(f, c(1, 200), tol = 1e-12)$root

# As phacking's Stan model: normal below its bound, Jeffreys' prior; by Simpson's rule over a spline through a grid of mu and log(tau).
rtma <- function(d, mu, logtau) {
  d$se <- sqrt(d$vi); d <- d[d$yi / d$se <= qnorm(.975), ]; crit <- qnorm(.975) * d$se
  lp <- function(mu, tau) {
    S <- sqrt(tau^2 + d$vi); cz <- (crit - mu) / S; r <- exp(dnorm(cz, log = TRUE) - pnorm(cz, log.p = TRUE))
    mm <- -sum(S^-2 * (cz * r + r^2 - 1)); ms <- -sum(tau * S^-3 * r * (cz^2 + cz * r + 1))
    ss <- -sum(tau^2 * S^-4 * (cz^3 * r + cz^2 * r^2 + cz * r - 2))
    sum(dnorm(d$yi, mu, S, log = TRUE) - pnorm(cz, log.p = TRUE)) + .5 * log(mm * ss - ms^2)
  }
  grid <- outer(mu, logtau, Vectorize(function(m, lt) lp(m, exp(lt)) + lt))
  p <- exp(grid - max(grid)); p <- p / sum(p)
  at <- function(x, w, q) {
    f <- splinefun(x, w); cells <- diff(x) / 6 * (head(w, -1) + 4 * f(head(x, -1) + diff(x) / 2) + tail(w, -1))
    p <- c(0, cumsum(cells)) / sum(cells); kept <- p > 1e-9 & p < 1 - 1e-7 & !duplicated(p)
    spline(p[kept], x[kept], xout = q)$y
  }
  top <- optim(c(.2, log(.15)), function(x) -lp(x[1], exp(x[2])), control = list(reltol = 1e-15, maxit = 5000))
  list(k = nrow(d), mode = c(top$par[1], exp(top$par[2])), mu = at(mu, rowSums(p), c(.025, .5, .975)),
       tau = exp(at(logtau, colSums(p), c(.025, .5, .975))))
}

bcg <- escalc(measure = "RR", ai = tpos, bi = tneg, ci = cpos, di = cneg, data = dat.bcg)
bcg <- data.frame(yi = c(bcg$yi), vi = c(bcg$vi), cluster = as.character(bcg$author))
out <- list()
out$bcg <- list(yi = bcg$yi, vi = bcg$vi, cluster = bcg$cluster, curve = curve(bcg, -1),
  svalue_limit = svalue(function(eta) pubbias(bcg, eta, -1)$ci_ub))
out$meat <- list(yi = meat$yi, vi = meat$vi, cluster = meat$cluster, curve = curve(meat, 1), q = .1,
  svalue = svalue(function(eta) pubbias(meat, eta)$estimate - .1),
  svalue_limit = svalue(function(eta) pubbias(meat, eta)$ci_lb - .1),
  rtma = rtma(meat, seq(-.2, 3, .002), seq(-7, 1.2, .02)))
out$money <- list(yi = money$yi, vi = money$vi, rtma = rtma(money, seq(-.3, 3, .002), seq(-9, 1, .02)))

# As metasens::orbbound does it.
m <- rma(yi, vi, data = bcg, control = tight); missing <- c(0, 1, 2, 5, 20)
s <- sqrt(bcg$vi + m$tau2)
out$bound <- list(missing = missing, estimate = c(m$beta), tau2 = m$tau2, ci_lb = m$ci.lb, ci_ub = m$ci.ub,
  bias = (m$k + missing) / m$k * dnorm(qnorm(m$k / (m$k + missing))) * sum(1 / s) / sum(1 / s^2))

out$tes <- list()
for (test in c("exact", "chi2", "binom")) for (alternative in c("two.sided", "greater", "less"))
  for (direction in c("greater", "less", "two.sided")) for (tau2 in c(0, m$tau2)) {
    t <- tes(bcg$yi, bcg$vi, theta = c(m$beta), tau2 = tau2, test = test, alternative = alternative,
             tes.alternative = direction, progbar = FALSE, rel.tol = 1e-12, subdivisions = 1000)
    lim <- if (direction == "two.sided") NULL else t$theta.lim
    out$tes[[length(out$tes) + 1]] <- list(test = test, alternative = alternative, tes_alternative = direction,
      tau2 = tau2, theta = c(m$beta), O = t$O, E = t$E, X2 = t$X2, pval = t$pval, theta_lim = lim)
  }
write(toJSON(out, digits = NA, auto_unbox = TRUE, null = "null", na = "null"), "worst.json")

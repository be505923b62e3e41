# Reference values for cluster-robust inference: robust.json, read by tests/reference/test_robust.py.
# Run with R 4.2.2, metafor 3.8-1, metadat 1.2-0, clubSandwich 0.5.8:  Rscript make_robust.R
suppressPackageStartupMessages({library(metafor); library(metadat); library(clubSandwich); library(jsonlite)})

types <- c("CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3")
v <- function(x) as.numeric(x)

robust_values <- function(fit, cluster, constraints = NULL) {
  out <- list(b = v(coef(fit)), se = v(fit$se), tau2 = v(fit$tau2), sigma2 = v(fit$sigma2), names = rownames(fit$beta))
  for (type in types) {
    V <- vcovCR(fit, cluster = cluster, type = type)
    tests <- as.data.frame(coef_test(fit, vcov = V, cluster = cluster, test = "Satterthwaite"))
    limits <- as.data.frame(conf_int(fit, vcov = V, cluster = cluster))
    one <- list(V = unname(as.matrix(V)), se = v(tests$SE), t = v(tests$tstat), df = v(tests$df_Satt),
                p = v(tests$p_Satt), lb = v(limits$CI_L), ub = v(limits$CI_U))
    if (!is.null(constraints)) {
      wald <- as.data.frame(Wald_test(fit, constraints = constrain_zero(constraints), vcov = V, test = "HTZ"))
      one$htz <- list(F = v(wald$Fstat), df1 = v(wald$df_num), df2 = v(wald$df_denom), p = v(wald$p_val))
    }
    out[[type]] <- one
  }
  out
}

metafor_values <- function(fit, cluster) {
  one <- function(...) { r <- robust(fit, cluster = cluster, ...); list(se = v(r$se), t = v(r$zval), p = v(r$pval), df = v(r$ddf)) }
  list(adjust = one(adjust = TRUE), plain = one(adjust = FALSE))
}

out <- list()
crede <- escalc(measure = "ZCOR", ri = ri, ni = ni, data = dat.crede2010)
crede$large <- as.numeric(crede$ni > 200)
tight <- list(threshold = 1e-14, maxiter = 10000, tol = 1e-14)

for (test in c("z", "knha")) {
  fit <- rma(yi, vi, mods = ~ criterion + large, data = crede, test = test, control = tight)
  out[[paste0("crede_uni_", test)]] <- robust_values(fit, crede$studyid, 2:fit$p)
  out[[paste0("crede_uni_", test)]]$metafor <- metafor_values(fit, crede$studyid)
}
fit <- rma(yi, vi, mods = ~ criterion, weights = ni, data = crede, control = tight)
out$crede_ni <- robust_values(fit, crede$studyid, 1:2)
fit <- rma(yi, vi, mods = ~ criterion, data = crede, method = "EE")
out$crede_EE <- robust_values(fit, crede$studyid, 1:2)

molloy <- escalc(measure = "ZCOR", ri = ri, ni = ni, data = dat.molloy2014)
fit <- rma(yi, vi, mods = ~ meanage + quality, data = molloy, control = tight)
out$molloy_singletons <- robust_values(fit, seq_len(nrow(molloy)), 2:3)
out$molloy_singletons$metafor <- metafor_values(fit, seq_len(nrow(molloy)))

konst <- dat.konstantopoulos2011
konst$late <- as.numeric(konst$year > 1990)
konst$third <- as.numeric(konst$school %% 3 == 0)
fit <- rma.mv(yi, vi, mods = ~ late + third, random = ~ 1 | district/school, data = konst)
out$konst_3l_mods <- robust_values(fit, konst$district, 2:3)

# The wild bootstrap with a fixed working model: every sign vector, each refitted by rma() with tau2 given.
small <- konst[konst$district %in% c(11, 12, 18, 27, 56, 71, 86), ]
wild <- function(mods, tested, tau2 = 0.05) {
  full <- function(y) { small$y <- y; if (is.null(mods)) rma(y, vi, tau2 = tau2, data = small) else rma(y, vi, mods = mods, tau2 = tau2, data = small) }
  X <- model.matrix(full(small$yi))
  rest <- X[, -tested, drop = FALSE]
  fitted <- if (ncol(rest)) { w <- 1 / (small$vi + tau2); v(rest %*% solve(crossprod(rest, w * rest), crossprod(rest, w * small$yi))) } else rep(0, nrow(small))
  cluster <- factor(small$district)
  stat <- function(y) as.data.frame(Wald_test(full(y), constraints = constrain_zero(tested), vcov = "CR2", cluster = cluster, test = "Naive-F"))$Fstat
  signs <- as.matrix(expand.grid(rep(list(c(1, -1)), nlevels(cluster))))
  half <- signs[signs[, 1] == 1, ]
  adjusted <- function(type) {
    res <- small$yi - fitted
    if (type == "CR0" || !ncol(rest)) return(res)
    null <- rma(yi, vi, mods = rest, intercept = FALSE, tau2 = tau2, data = small)
    A <- attr(vcovCR(null, cluster = cluster, type = type), "adjustments")
    v(unsplit(Map(function(a, e) v(a %*% e), A, split(res, cluster)), cluster))
  }
  list(observed = stat(small$yi),
       stats = lapply(c(CR0 = "CR0", CR2 = "CR2"), function(type) { e <- adjusted(type); apply(half, 1, function(s) stat(fitted + e * s[as.integer(cluster)])) }))
}
out$wild <- list(tau2 = 0.05, one = wild(~ late, 2), all = wild(~ late + third, 1:3), mean = wild(NULL, 1))

write_json(out, "robust.json", digits = 15, auto_unbox = TRUE, null = "null", na = "null")

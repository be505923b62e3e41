# Reference numbers of Hunter and Schmidt's corrections.  Rscript make_artifacts.R   -> artifacts.json beside it
# Means by metafor's rma with given weights; variances and distributions written out from Schmidt & Hunter (2015).
suppressPackageStartupMessages({library(metafor); library(jsonlite)})
ri <- c(.21, .35, .08, .29, .44, .17, .02, .31); ni <- c(48, 120, 61, 200, 35, 90, 150, 77)
rxx <- c(.91, .85, .78, .88, .93, .80, .84, .90); ryy <- c(.80, .88, .75, .90, .82, .70, .86, .79)
mean_r <- sum(ni * ri) / sum(ni); ve <- (1 - mean_r^2)^2 / (ni - 1)
bare <- rma(ri, ve, weights=ni, method="FE")
A <- sqrt(rxx * ryy); rc <- ri / A; w <- ni * A^2
ic <- rma(rc, ve / A^2, weights=w, method="FE")
wvar <- function(x, w) sum(w * (x - sum(w * x) / sum(w))^2) / sum(w)
k <- length(ri)
individual <- list(mean=as.numeric(ic$beta), var_total=wvar(rc, w), var_error=sum(w * ve / A^2) / sum(w))
individual$var_true <- individual$var_total - individual$var_error
individual$se <- sqrt(individual$var_total / k)
# Every reliability of x with every one of y, as often as their n says.
g <- expand.grid(i=1:k, j=1:k); p <- ni[g$i] * ni[g$j] / sum(ni)^2; a <- sqrt(rxx[g$i] * ryy[g$j])
rho <- mean_r / sum(p * a); art <- sum(p * (rho * a - mean_r)^2)
ad <- list(mean=rho, var_artifacts=art / sum(p * a)^2,
  var_true=(wvar(ri, ni) - sum(ni * ve) / sum(ni) - art) / sum(p * a)^2)
W <- list(r=ri, n=ni, rxx=rxx, ryy=ryy, versions=list(R=as.character(getRversion()), metafor=as.character(packageVersion("metafor"))),
  bare=list(mean=as.numeric(bare$beta), var_total=wvar(ri, ni), var_error=sum(ni * ve) / sum(ni)), individual=individual, distribution=ad,
  # A meta-analysis of corrected correlations like any other: REML on r / A and v / A^2.
  reml=local({ v <- (1 - ri^2)^2 / (ni - 1); m <- rma(rc, v / A^2, control=list(threshold=1e-14, maxiter=1000)); list(beta=as.numeric(m$beta), tau2=m$tau2, ci_lb=m$ci.lb, ci_ub=m$ci.ub) }),
  reml_z=local({ z <- atanh(rc); v <- 1 / (ni - 3) * ((1 - ri^2) / (1 - rc^2) / A)^2; m <- rma(z, v, control=list(threshold=1e-14, maxiter=1000)); list(beta=as.numeric(m$beta), tau2=m$tau2) }))
write(toJSON(W, digits=15, auto_unbox=TRUE, pretty=TRUE), "artifacts.json")

# What metafor makes of leaving out effects and clusters; run in this folder: Rscript make_deletion.R
suppressPackageStartupMessages({library(metafor); library(metadat); library(jsonlite)})
out <- list(source=list(R=as.character(getRversion()), metafor=as.character(packageVersion("metafor")), metadat=as.character(packageVersion("metadat"))))
dat <- dat.konstantopoulos2011
dat$yc <- (dat$year - 1990)/10
out$data <- dat[c("district", "school", "study", "year", "yc", "yi", "vi")]
num <- function(x) unname(as.numeric(x))

# Univariate: closed-form estimators, one by a search, weights of the user.
tight <- list(threshold=1e-14, maxiter=10000, tol=1e-14)
infl <- function(m) { I <- influence(m); inf <- unclass(I$inf); dfbs <- unclass(I$dfbs); c(lapply(inf[c("rstudent", "dffits", "cook.d", "cov.r", "tau2.del", "QE.del", "hat", "weight")], num), list(dfbs=unname(lapply(dfbs[seq_len(m$p)], num)), flagged=I$is.infl)) }
l1o <- function(m) lapply(unclass(leave1out(m))[c("estimate", "se", "pval", "ci.lb", "ci.ub", "tau2", "Q", "I2")], num)
uni <- list()
for (method in c("DL", "HE", "SJ", "PM", "ML")) for (test in c("z", "knha"))
  uni[[paste(method, test)]] <- list(method=method, test=test,
    influence=infl(rma(yi, vi, mods=~ yc, data=dat, method=method, test=test, control=tight)),
    leave1out=l1o(rma(yi, vi, data=dat, method=method, test=test, control=tight)))
out$univariate <- uni
w <- sqrt(1/dat$vi)
out$weights <- infl(rma(yi, vi, weights=w, data=dat, method="DL", control=tight))
c1 <- unclass(cumul(rma(yi, vi, data=dat, method="DL", test="knha"), order=year))
out$cumul <- lapply(c1[c("estimate", "se", "tau2", "I2")], num)

# Multilevel: everything estimated anew.
opt <- list(rel.tol=1e-11, eval.max=5000, iter.max=5000)
mv <- function(fit) {
  cook <- cooks.distance(fit, cluster=district)
  r <- rstudent(fit, cluster=district)
  list(sigma2=fit$sigma2, hat=num(hatvalues(fit)), rstudent=num(rstudent(fit)$z),
       cook=list(district=names(cook), cook=unname(cook), dfbs=as.list(as.data.frame(dfbetas(fit, cluster=district)))),
       dfbs=as.list(as.data.frame(dfbetas(fit))), cook_of_effects=num(cooks.distance(fit)))
}
out$three <- mv(rma.mv(yi, vi, mods=~ yc, random=~ 1 | district/school, data=dat, control=opt))
V <- vcalc(vi, cluster=district, obs=study, rho=0.6, data=dat)
out$che <- mv(rma.mv(yi, V, random=~ 1 | district/school, data=dat, control=opt))
write_json(out, "deletion.json", digits=I(17), auto_unbox=TRUE, na="null", matrix="rowmajor")

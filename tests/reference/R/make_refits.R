# What refits a multilevel model in rma.mv; run in this folder: Rscript make_refits.R
suppressPackageStartupMessages({library(metafor); library(metadat); library(jsonlite)})
out <- list(source=list(R=as.character(getRversion()), metafor=as.character(packageVersion("metafor")), metadat=as.character(packageVersion("metadat"))))
tight <- list(rel.tol=1e-10, eval.max=5000, iter.max=5000)
ll <- function(fit) as.numeric(logLik(fit))
frame <- function(x) as.list(as.data.frame(x))

konst <- dat.konstantopoulos2011
konst$yc <- (konst$year - 1990)/10
fit <- rma.mv(yi, vi, mods=~ yc, random=~ 1 | district/school, data=konst, control=tight)
null <- function(s) rma.mv(yi, vi, mods=~ yc, random=~ 1 | district/school, data=konst, sigma2=s, control=tight)
lrt <- function(reduced) { a <- anova(fit, reduced); list(ll=ll(reduced), LRT=a$LRT, pval=a$pval) }
without <- lapply(unique(konst$district), function(d) {
  one <- rma.mv(yi, vi, mods=~ yc, random=~ 1 | district/school, data=konst, subset=district != d, control=tight)
  list(district=d, b=c(one$b), se=one$se, sigma2=one$sigma2, ll=ll(one))
})
cook <- cooks.distance(fit, cluster=district, reestimate=FALSE)
out$konst <- list(data=konst[c("district", "school", "study", "yc", "yi", "vi")], ll=ll(fit), sigma2=fit$sigma2,
  no_district=lrt(null(c(0, NA))), no_school=lrt(null(c(NA, 0))), neither=lrt(null(c(0, 0))),
  cook=list(district=names(cook), cook=unname(cook), dfbs=frame(dfbetas(fit, cluster=district, reestimate=FALSE))),
  without=without,
  profile=list(district=frame(profile(fit, sigma2=1, xlim=c(0, 0.3), steps=7, plot=FALSE)[c("sigma2", "ll")]),
               school=frame(profile(fit, sigma2=2, xlim=c(0.005, 0.08), steps=7, plot=FALSE)[c("sigma2", "ll")])))

crossed <- rma.mv(yi, vi, random=list(~ 1 | district, ~ 1 | year, ~ 1 | study), data=konst, control=tight)
cook <- cooks.distance(crossed, cluster=district, reestimate=FALSE)
out$crossed <- list(data=konst[c("district", "year", "study", "yi", "vi")], sigma2=crossed$sigma2,
  cook=list(district=names(cook), cook=unname(cook), dfbs=frame(dfbetas(crossed, cluster=district, reestimate=FALSE))))

berkey <- dat.berkey1998
V <- bldiag(lapply(split(berkey[c("v1i", "v2i")], berkey$trial), as.matrix))
un <- rma.mv(yi, V, mods=~ 0 + outcome, random=~ outcome | trial, struct="UN", data=berkey, control=tight)
out$berkey <- list(data=berkey[c("trial", "outcome", "yi")], V=unname(V), ll=ll(un), tau2=un$tau2, rho=un$rho,
  tau2_1=frame(profile(un, tau2=1, xlim=c(0.002, 0.12), steps=6, plot=FALSE)[c("tau2", "ll")]),
  tau2_2=frame(profile(un, tau2=2, xlim=c(0.005, 0.2), steps=6, plot=FALSE)[c("tau2", "ll")]),
  rho_1=frame(profile(un, rho=1, xlim=c(-0.6, 0.95), steps=6, plot=FALSE)[c("rho", "ll")]),
  confint=lapply(list(tau2_1=confint(un, tau2=1), tau2_2=confint(un, tau2=2), rho_1=confint(un, rho=1)), function(x) unname(x$random[1, ])))
write_json(out, "refits.json", digits=I(17), auto_unbox=TRUE, na="null", matrix="rowmajor")

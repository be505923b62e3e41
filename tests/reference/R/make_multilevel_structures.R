# Multivariate and crossed models of rma.mv; run in this folder: Rscript make_multilevel_structures.R
suppressPackageStartupMessages({library(metafor); library(metadat); library(jsonlite)})
out <- list(source=list(R=as.character(getRversion()), metafor=as.character(packageVersion("metafor")), metadat=as.character(packageVersion("metadat"))))
num <- function(fit) list(b=c(fit$b), se=fit$se, sigma2=fit$sigma2, tau2=fit$tau2, rho=fit$rho, ll=as.numeric(logLik(fit)), QE=fit$QE, QM=fit$QM)
try_fit <- function(...) {
  call <- match.call(expand.dots=TRUE)
  call[[1]] <- quote(rma.mv)
  for (tol in c(1e-13, 1e-11, 1e-10, 1e-9)) {
    call$control <- list(rel.tol=tol, eval.max=5000, iter.max=5000)
    fit <- try(suppressWarnings(eval(call, parent.frame())), silent=TRUE)
    if (!inherits(fit, "try-error")) return(c(num(fit), list(rel_tol=tol)))
  }
  list(error=as.character(fit))
}

dat <- dat.tannersmith2016; dat$esid <- seq_len(nrow(dat))
V <- vcalc(vi, cluster=studyid, obs=esid, rho=0.8, data=dat)
dat$aget1 <- ave(dat$aget1, dat$studyid); dat$aget2 <- ave(dat$aget2, dat$studyid)
out$tanner <- list(data=dat[c("studyid", "esid", "yi", "vi", "aget1", "aget2")],
  CS=try_fit(yi, V, random=~ esid | studyid, data=dat),
  mods=try_fit(yi, V, mods=~ aget1 + aget2, random=~ 1 | studyid/esid, data=dat),
  ML=try_fit(yi, V, mods=~ aget1 + aget2, random=~ 1 | studyid/esid, data=dat, method="ML"))

tmp <- rcalc(ri ~ var1 + var2 | study, ni=ni, data=dat.craft2003)
# rma.mv leaves out rows without an effect or a covariance.
used <- rma.mv(yi, tmp$V, mods=~ 0 + var1.var2, data=tmp$dat)$not.na
craft <- tmp$dat[used, ]; craft_V <- tmp$V[used, used]
out$craft <- list(data=data.frame(study=craft$study, pair=as.character(craft$var1.var2), yi=craft$yi), V=unname(craft_V),
  UN=try_fit(yi, craft_V, mods=~ 0 + var1.var2, random=~ var1.var2 | study, struct="UN", data=craft),
  HCS=try_fit(yi, craft_V, mods=~ 0 + var1.var2, random=~ var1.var2 | study, struct="HCS", data=craft),
  CS=try_fit(yi, craft_V, mods=~ 0 + var1.var2, random=~ var1.var2 | study, struct="CS", data=craft),
  DIAG=try_fit(yi, craft_V, mods=~ 0 + var1.var2, random=~ var1.var2 | study, struct="DIAG", data=craft),
  ID=try_fit(yi, craft_V, mods=~ 0 + var1.var2, random=~ var1.var2 | study, struct="ID", data=craft))

ishak <- reshape(dat.ishak2007, direction="long", idvar="study", v.names=c("yi","vi"),
                 varying=list(c(2,4,6,8), c(3,5,7,9)))
ishak <- ishak[order(ishak$study, ishak$time), ]
ishak <- ishak[!is.na(ishak$yi), ]; rownames(ishak) <- NULL
Vi <- vcalc(vi, cluster=study, time1=time, phi=0.97, data=ishak)
out$ishak <- list(data=ishak[c("study", "time", "yi", "vi")], phi=0.97,
  AR=try_fit(yi, Vi, mods=~ factor(time) - 1, random=~ time | study, struct="AR", data=ishak),
  HAR=try_fit(yi, Vi, mods=~ factor(time) - 1, random=~ time | study, struct="HAR", data=ishak),
  CAR=try_fit(yi, Vi, mods=~ factor(time) - 1, random=~ time | study, struct="CAR", data=ishak))

konst <- dat.konstantopoulos2011
out$konst <- list(data=konst[c("district", "school", "study", "year", "yi", "vi")],
  crossed=try_fit(yi, vi, random=list(~ 1 | district, ~ 1 | year, ~ 1 | study), data=konst),
  R={set.seed(1); lev <- sort(unique(konst$district)); m <- outer(lev, lev, function(a, b) exp(-abs(a - b)/200)); dimnames(m) <- list(lev, lev)
     c(try_fit(yi, vi, random=list(~ 1 | district, ~ 1 | study), R=list(district=m), data=konst), list(R=unname(m), levels=lev))},
  slopes={konst$yc <- (konst$year - 1990)/10
     try_fit(yi, vi, mods=~ yc, random=list(~ yc | school, ~ 1 | study), struct="GEN", data=konst)},
  contain=c(num(rma.mv(yi, vi, mods=~ yc, random=~ 1 | district/school, data=konst, test="t", dfs="contain", control=list(rel.tol=1e-12))),
            list(ddf=unname(rma.mv(yi, vi, mods=~ yc, random=~ 1 | district/school, data=konst, test="t", dfs="contain")$ddf))))
write_json(out, "multilevel_structures.json", digits=I(17), auto_unbox=TRUE, na="null", matrix="rowmajor")

# The working models of CHE, SCE and CHE+ by rma.mv; run in this folder: Rscript make_recipes.R
suppressPackageStartupMessages({library(metafor); library(metadat); library(jsonlite)})
out <- list(source=list(R=as.character(getRversion()), metafor=as.character(packageVersion("metafor")), metadat=as.character(packageVersion("metadat"))))
num <- function(...) {
  call <- match.call(expand.dots=TRUE)
  call[[1]] <- quote(rma.mv)
  for (tol in c(1e-13, 1e-11, 1e-10, 1e-9)) {
    call$control <- list(rel.tol=tol, eval.max=5000, iter.max=5000)
    fit <- try(suppressWarnings(eval(call, parent.frame())), silent=TRUE)
    if (!inherits(fit, "try-error"))
      return(list(b=c(fit$b), se=fit$se, sigma2=fit$sigma2, tau2=fit$tau2, ll=as.numeric(logLik(fit)), QE=fit$QE, rel_tol=tol))
  }
  list(error=as.character(fit))
}

dat <- escalc(measure="ZCOR", ri=ri, ni=ni, data=dat.crede2010)
dat$es_id <- seq_len(nrow(dat))
V <- vcalc(vi, cluster=studyid, obs=es_id, data=dat, rho=0.6)
V_sub <- vcalc(vi, cluster=studyid, subgroup=criterion, obs=es_id, data=dat, rho=0.6)
out$crede <- list(
  data=data.frame(study=dat$studyid, criterion=as.character(dat$criterion), yi=c(dat$yi), vi=c(dat$vi)),
  che=num(yi, V, random=~ 1 | studyid/es_id, data=dat),
  che_mods=num(yi, V, mods=~ criterion, random=~ 1 | studyid/es_id, data=dat),
  sce=num(yi, V_sub, mods=~ 0 + criterion, random=~ criterion | studyid, struct="DIAG", data=dat),
  che_plus=num(yi, V, mods=~ criterion, random=list(~ 1 | studyid, ~ criterion | es_id), struct="DIAG", data=dat))
write_json(out, "recipes.json", digits=I(17), auto_unbox=TRUE, na="null")

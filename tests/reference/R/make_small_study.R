# Small-study effects; run in this folder: Rscript make_small_study.R METASENS, the R/ folder of metasens' sources.
# limitmeta needs three functions of the package meta, which stand here as they are defined there.
suppressPackageStartupMessages({library(metafor); library(metadat); library(clubSandwich); library(jsonlite)})
metasens <- commandArgs(trailingOnly=TRUE)[1]
chkclass <- function(...) NULL
setchar <- function(x, ...) x
metagen <- function(TE, seTE, ...) {
  w <- 1/seTE^2
  list(TE=TE, seTE=seTE, TE.common=sum(w*TE)/sum(w), seTE.common=sqrt(1/sum(w)))
}
ci <- function(TE, seTE, level) {
  half <- qnorm(1-(1-level)/2)*seTE
  list(lower=TE-half, upper=TE+half, statistic=TE/seTE, p=2*pnorm(-abs(TE/seTE)))
}
for (file in c("limitmeta.R", "radialregression.R")) {
  text <- readLines(file.path(metasens, file))
  eval(parse(text=sub('utils::packageDescription("metasens")$Version', "NA", text, fixed=TRUE)))
}

tight <- list(threshold=1e-14, maxiter=10000)
v <- function(x) if (is.null(x)) NULL else unname(as.numeric(x))
predictors <- c("sei", "vi", "ni", "ninv", "sqrtni", "sqrtninv")
values <- function(d) list(sei=sqrt(d$vi), vi=d$vi, ni=d$ni, ninv=1/d$ni, sqrtni=sqrt(d$ni), sqrtninv=1/sqrt(d$ni))

regression <- function(d, test) {
  fit <- rma(yi, vi, data=d, test=test, control=tight)
  both <- expand.grid(predictor=predictors, model=c("rma", "lm"), stringsAsFactors=FALSE)
  lapply(seq_len(nrow(both)), function(i) {
    r <- regtest(fit, model=both$model[i], predictor=both$predictor[i], ni=d$ni, ret.fit=TRUE)
    list(model=both$model[i], predictor=both$predictor[i], stat=v(r$zval), pval=v(r$pval), ddf=if (length(r$ddf) && !is.na(r$ddf[1])) v(r$ddf)[1] else NULL,
         est=v(r$est), ci_lb=v(r$ci.lb), ci_ub=v(r$ci.ub))
  })
}
limit <- function(d) {
  fit <- rma(yi, vi, data=d, control=tight)
  w <- 1/(d$vi + fit$tau2)
  x <- list(TE=d$yi, seTE=sqrt(d$vi), tau=sqrt(fit$tau2), w.random=w, k=nrow(d), Q=fit$QE, df.Q=nrow(d)-1, sm="ZCOR",
            TE.random=v(fit$beta), seTE.random=fit$se, level=0.95, level.ma=0.95, backtransf=FALSE)
  lapply(c(beta0="beta0", betalim="betalim", mulim="mulim"), function(m) {
    r <- limitmeta(x, method.adjust=m)
    c(lapply(r[c("TE.adjust", "seTE.adjust", "lower.adjust", "upper.adjust", "pval.adjust", "alpha.r", "beta.r", "Q",
                 "Q.small", "Q.resid", "G.squared")], v), list(shrunken=v(r$TE.limit), tau2=fit$tau2))
  })
}
sets <- list(molloy2014=dat.molloy2014, mcdaniel1994=dat.mcdaniel1994, crede2010=dat.crede2010)
sets <- lapply(sets, function(d) as.data.frame(escalc(measure="ZCOR", ri=ri, ni=ni, data=d)))
out <- list(source=list(R=as.character(getRversion()), metafor=as.character(packageVersion("metafor")),
  clubSandwich=as.character(packageVersion("clubSandwich")), metasens="1.5-2"))
out$regtest <- lapply(sets, regression, test="z")
out$regtest_knha <- lapply(sets, regression, test="knha")
out$limitmeta <- lapply(sets, limit)

# Several effects per study: the whole regression, and with a moderator.
d <- sets$crede2010
d$es_id <- seq_len(nrow(d))
V <- vcalc(vi, cluster=studyid, obs=es_id, data=d, rho=0.6)
che <- function(x, mods) {
  d$x <- x
  fit <- rma.mv(yi, V, mods=mods, random=~ 1 | studyid/es_id, data=d, sparse=TRUE, control=list(rel.tol=1e-10, eval.max=5000, iter.max=5000))
  ct <- coef_test(fit, vcov="CR2", cluster=d$studyid)
  list(b=ct$beta, se=ct$SE, t=ct$tstat, df=if (is.null(ct$df_Satt)) ct$df else ct$df_Satt, p=if (is.null(ct$p_Satt)) ct$p_val else ct$p_Satt, sigma2=fit$sigma2)
}
out$che <- list(data=d[c("studyid", "criterion", "yi", "vi", "ni")], plain=lapply(values(d), che, mods=~ x),
  criterion=lapply(values(d), che, mods=~ criterion + x))

# Weighted averages, and with standard errors from studies.
average <- function(y, v, cluster=NULL) {
  if (is.null(cluster)) return(unname(summary(lm(y ~ 1, weights=1/v))$coefficients[1, c(1, 2, 4)]))
  ct <- coef_test(rma(y, v, method="EE"), vcov="CR2", cluster=cluster)
  c(ct$beta, ct$SE, if (is.null(ct$p_Satt)) ct$p_val else ct$p_Satt)
}
averages <- function(d, cluster=NULL) {
  t <- d$ri*sqrt((d$ni - 2)/(1 - d$ri^2))
  r3 <- t/sqrt(t^2 + d$ni - 2 + 3)
  whole <- average(d$yi, d$vi, cluster)
  keep <- sqrt(d$vi) <= abs(whole[1])/2.8
  list(uwls=whole, uwls3=average(r3, (1 - r3^2)/(d$ni - 2 + 3), cluster), waap=average(d$yi[keep], d$vi[keep], cluster[keep]),
       powered=sum(keep))
}
out$averages <- c(lapply(sets, averages), list(studies=averages(d, d$studyid)))

# Ranks without ties, and with some.
set.seed(17)
ranks <- function(k, digits) {
  y <- round(rnorm(k, 0.2, 0.2), digits)
  n <- sample(20:400, k, replace=digits < 3)
  t <- suppressWarnings(ranktest(y, 1/(n - 3)))
  list(yi=y, vi=1/(n - 3), tau=v(t$tau), pval=v(t$pval))
}
out$ranktest <- list(few=ranks(9, 3), some=ranks(40, 3), many=ranks(120, 3), ties=ranks(60, 1))
# Univariate fits of made-up effects with moderators.
mod <- rma(yi, vi, mods=~ criterion, data=d, control=tight)
r <- regtest(mod, predictor="sei")
out$moderators <- list(stat=v(r$zval), pval=v(r$pval))
write_json(out, "small_study.json", digits=I(17), auto_unbox=TRUE, na="null", null="null")

# Baujat, radial and normal quantile plots, and all subsets of eight effects; run in this folder: Rscript make_outliers.R
suppressPackageStartupMessages({library(metafor); library(metadat); library(jsonlite)})
pdf(NULL)
tight <- list(threshold=1e-14, maxiter=10000)
v <- function(x) unname(as.numeric(x))
sets <- list(molloy2014=dat.molloy2014, mcdaniel1994=dat.mcdaniel1994, crede2010=dat.crede2010)
sets <- lapply(sets, function(d) as.data.frame(escalc(measure="ZCOR", ri=ri, ni=ni, data=d)))
points <- function(fit) {
  b <- baujat(fit, progbar=FALSE)
  q <- qqnorm(fit, envelope=FALSE)
  s <- qqnorm(fit, type="rstudent", envelope=FALSE)
  out <- list(baujat=list(x=v(b$x), y=v(b$y)), rstandard=list(x=v(q$x), y=v(q$y)), rstudent=list(x=v(s$x), y=v(s$y)))
  if (fit$int.only) { r <- radial(fit); out$radial <- list(x=v(r$x), y=v(r$y)) }
  out
}
out <- list(source=list(R=as.character(getRversion()), metafor=as.character(packageVersion("metafor"))))
out$plots <- lapply(sets, function(d) list(
  REML=points(rma(yi, vi, data=d, control=tight)),
  EE=points(rma(yi, vi, data=d, method="EE")),
  knha=points(rma(yi, vi, data=d, method="DL", test="knha")),
  weights=points(rma(yi, vi, data=d, weights=sqrt(ni), control=tight)),
  regression=points(rma(yi, vi, mods=~ sqrt(ni), data=d, control=tight))))
eight <- sets$molloy2014[1:8, ]
outlier <- eight; outlier$yi[3] <- 1.5
each <- function(d, method) {
  g <- gosh(rma(yi, vi, data=d, method=method, control=if (method == "REML") tight else list()), progbar=FALSE)
  list(incl=unname(apply(g$incl, 1, function(x) sum(2^(which(x) - 1)))), res=lapply(g$res, v))
}
out$gosh <- lapply(list(eight=eight, outlier=outlier), function(d)
  c(list(yi=v(d$yi), vi=v(d$vi)), lapply(c(REML="REML", DL="DL", EE="EE"), function(m) each(d, m))))
write_json(out, "outliers.json", digits=NA, auto_unbox=TRUE, na="null", null="null", pretty=FALSE)

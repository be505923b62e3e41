# Reference numbers of aggregated effects.  Rscript make_aggregate.R   -> aggregate.json beside it
# metafor's aggregate() of the shipped crede2010, by study and by sample, and one generalised least-squares mean.
suppressPackageStartupMessages({library(metafor); library(jsonlite)})
v <- function(x) as.numeric(x)
dat <- read.csv(file.path("..", "..", "..", "data", "validation", "crede2010", "crede2010.csv"))
out <- list(versions=list(R=as.character(getRversion()), metafor=as.character(packageVersion("metafor"))))
one <- function(x) { list(yi=v(x$yi), vi=v(x$vi)) }
for (measure in c("ZCOR", "COR")) {
  es <- escalc(measure=measure, ri=r, ni=n, data=dat)
  own <- list()
  for (rho in c(-0.1, 0, 0.3, 0.6, 0.95)) for (weighted in c(TRUE, FALSE))
    own[[paste0("CS_", rho, "_", weighted)]] <- one(aggregate(es, cluster=study, rho=rho, weighted=weighted))
  own$ID <- one(aggregate(es, cluster=study, struct="ID"))
  own$ID_FALSE <- one(aggregate(es, cluster=study, struct="ID", weighted=FALSE))
  es$sample <- paste(es$study, es$sampleid, sep=" / ")
  own$sample_0.5 <- one(aggregate(es, cluster=sample, rho=0.5))
  # One correlation per study, and a matrix of one's own: 0.7 within a sample, 0.2 between samples of a study.
  rhos <- seq(0, 0.6, length.out=length(unique(es$study)))
  own$varying <- one(aggregate(es, cluster=study, rho=rhos))
  R <- outer(es$study, es$study, "==") * ifelse(outer(es$sample, es$sample, "=="), 0.7, 0.2); diag(R) <- 1
  V <- diag(sqrt(es$vi)) %*% R %*% diag(sqrt(es$vi))
  V <- (V + t(V)) / 2
  own$V_TRUE <- one(aggregate(es, cluster=study, V=V))
  own$V_FALSE <- one(aggregate(es, cluster=study, V=V, weighted=FALSE))
  out[[measure]] <- own
}
# Gleser and Olkin's covariance of multiple endpoints, pooled standard deviation, two groups of n / 2 each.
n <- 71; rho <- 0.5; d <- 2*c(.29, .1, .05, -.2, 0) / sqrt(1 - c(.29, .1, .05, -.2, 0)^2)
V <- outer(d, d) * rho^2 / (2*n) + 4*rho/n; diag(V) <- 4/n + d^2/(2*n)
m <- rma.mv(d, V, method="EE")
out$gleser_olkin <- list(n=n, rho=rho, d=d, b=v(m$b), v=v(m$vb))
write_json(out, "aggregate.json", digits=NA, auto_unbox=TRUE, pretty=FALSE)

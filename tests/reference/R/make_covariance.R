# Reference numbers of sampling covariances.  Rscript make_covariance.R   -> covariance.json beside it
# metafor's vcalc() and rcalc() on the shipped data, and Matrix's nearPD(). Of each V the lower triangle's non-zeros.
suppressPackageStartupMessages({library(metafor); library(Matrix); library(jsonlite)})
shipped <- function(name) read.csv(file.path("..", "..", "..", "data", "validation", name, paste0(name, ".csv")))
v <- function(x) as.numeric(x)
cells <- function(V) { w <- which(lower.tri(V, diag=TRUE) & !is.na(V) & V != 0, arr.ind=TRUE)
  list(i=unname(w[, 1]) - 1, j=unname(w[, 2]) - 1, v=v(V[w])) }
out <- list(versions=list(R=as.character(getRversion()), metafor=as.character(packageVersion("metafor")),
  Matrix=as.character(packageVersion("Matrix"))))

t <- shipped("tannersmith2016"); t$esid <- seq_len(nrow(t)); t$age <- paste0("a", t$aget1)
vt <- function(...) cells(eval(substitute(vcalc(vi, cluster=studyid, data=t, checkpd=FALSE, ...)), globalenv()))
between <- matrix(c(1, .4, .3, .4, 1, .2, .3, .2, 1), 3, dimnames=list(c("mixed", "female", "male"), c("mixed", "female", "male")))
ages <- sort(unique(t$age)); within <- outer(seq_along(ages), seq_along(ages), function(a, b) .9^abs(a - b))
dimnames(within) <- list(ages, ages)
if (!all(t$sexmix %in% rownames(between))) stop("sexmix: ", paste(unique(t$sexmix), collapse=", "))
out$tannersmith <- list(
  constant=vt(obs=esid, rho=.8), negative=vt(obs=esid, rho=-.05),
  time=vt(obs=esid, rho=.8, time1=aget2, phi=.7), repeated=vt(obs=age, rho=.6, time1=aget2, phi=.7),
  type=vt(obs=esid, type=sexmix, rho=c(.8, .4)), type_time=vt(obs=esid, type=sexmix, rho=c(.8, .4), time1=aget2, phi=.9),
  between=vt(obs=esid, type=sexmix, rho=list(.8, between)), obs=vt(obs=age, rho=within),
  both=vt(obs=age, type=sexmix, rho=list(within, between)), subgroup=vt(subgroup=sexmix, obs=esid, rho=.5))

cr <- escalc(measure="ZCOR", ri=r, ni=n, data=shipped("crede2010")); cr$esid <- seq_len(nrow(cr))
out$crede <- list(
  constant=cells(vcalc(vi, cluster=study, obs=esid, rho=.6, data=cr)),
  subgroup=cells(vcalc(vi, cluster=study, subgroup=sampleid, obs=esid, rho=.6, data=cr)),
  type=cells(vcalc(vi, cluster=study, subgroup=sampleid, obs=esid, type=criterion, rho=c(.7, .3), data=cr)))

c3 <- shipped("craft2003")
for (rtoz in c(FALSE, TRUE)) {
  x <- rcalc(r ~ var1 + var2 | study, ni=n, data=c3, rtoz=rtoz)
  # Study 17 does not give what its covariances need; study 6 lacks three correlations and is fine without them.
  keep <- !is.na(x$dat$yi); keep[keep] <- !rowSums(is.na(x$V[keep, keep]))
  out$craft[[if (rtoz) "ZCOR" else "COR"]] <- c(list(yi=v(x$dat$yi[keep]), pair=x$dat$var1.var2[keep]), cells(x$V[keep, keep]))
}
# A study whose correlations rest on different n, by each rule.
c3$n[c3$study == 1] <- c(142, 130, 120, 142, 141, 125)
for (rule in c("min", "harmonic", "mean")) {
  x <- rcalc(r ~ var1 + var2 | study, ni=n, data=c3[c3$study %in% c(1, 3), ], rtoz=TRUE, nfun=rule)
  out$unequal[[rule]] <- c(list(ni=v(x$dat$ni)), cells(x$V))
}

# Correlations that no data can have.
bad <- list(three=matrix(c(1, .9, -.9, .9, 1, .9, -.9, .9, 1), 3),
  four=matrix(c(1, -.55, -.15, -.1, -.55, 1, .9, .9, -.15, .9, 1, .9, -.1, .9, .9, 1), 4))
for (name in names(bad)) {
  near <- nearPD(bad[[name]], corr=TRUE, conv.tol=1e-15, maxit=20000)
  out$nearest[[name]] <- list(R=unname(bad[[name]]), near=unname(as.matrix(near$mat)))
}
writeLines(toJSON(out, digits=NA, auto_unbox=TRUE, null="null", na="null"), "covariance.json")

# Copas' model by metasens 1.5-2 (commit b2bd545e): Rscript make_metasens.R FOLDER, which holds its R files.
# Its own optimiser and contours run; what it asks of package meta (checks, Egger's slope, a mean) is given here.
suppressPackageStartupMessages({library(metafor); library(jsonlite)})
folder <- commandArgs(TRUE)[1]
chkclass <- chklevel <- chknumeric <- chklogical <- function(...) invisible(NULL)
packageDescription <- function(...) list(Version = "1.5-2")
for (file in c("copas-internal.R", "copas.R")) {
  text <- sub("utils::packageDescription", "packageDescription", readLines(file.path(folder, file)), fixed = TRUE)
  eval(parse(text = text))
}
ci <- function(TE, seTE, ...) list(TE = TE, seTE = seTE)
metagen <- function(TE, seTE, ...) list(TE.common = weighted.mean(TE, 1 / seTE^2))
metabias <- function(x, ...) list(estimate = coef(lm(x$TE / x$seTE ~ I(1 / x$seTE)))[1])

one <- function(yi, sei) {
  fit <- rma(yi, sei^2, method = "DL")
  x <- list(TE = yi, seTE = sei, TE.random = as.numeric(fit$beta), seTE.random = fit$se, tau = sqrt(fit$tau2),
            level.ma = .95, sm = "", method.random.ci = "classic")
  found <- copas(structure(x, class = "meta"))
  corner <- function(gamma, share) min(gamma) + share * diff(range(gamma))
  list(yi = yi, sei = sei, left = found$left, slope = found$slope, contour = found$TE.contour,
       gamma0 = c(10, corner(found$gamma0, found$x.slope)), gamma1 = c(0, corner(found$gamma1, found$y.slope)),
       publprob = found$publprob, estimate = found$TE.slope, se = found$seTE.slope, rho = found$rho.slope,
       tau = found$tau.slope, loglik = -found$loglik1, loglik_slope = -found$loglik2, pval = found$pval.rsb,
       unpublished = found$N.unpubl, adjusted = c(found$TE.adjust, found$seTE.adjust, found$pval.rsb.adj))
}
# Fleiss (1993), aspirin after myocardial infarction: the example of ?copas.
aspirin <- escalc("OR", ai = c(49, 44, 102, 32, 85, 246, 1570), n1i = c(615, 758, 832, 317, 810, 2267, 8587),
                  ci = c(67, 64, 126, 38, 52, 219, 1720), n2i = c(624, 771, 850, 309, 406, 2257, 8600))
out <- list(fleiss1993 = one(as.numeric(aspirin$yi), sqrt(as.numeric(aspirin$vi))))
for (name in c("molloy2014", "mcdaniel1994", "crede2010")) {
  data <- fromJSON(paste0(name, "_ZCOR.json"))
  out[[name]] <- one(as.numeric(data$yi), sqrt(as.numeric(data$vi)))
}
writeLines(toJSON(out, digits = 10, auto_unbox = TRUE), "metasens.json")

# Moderators one by one and together, by rma, rma.mv and clubSandwich; run in this folder: Rscript make_moderator_table.R
suppressPackageStartupMessages({library(metafor); library(metadat); library(clubSandwich); library(jsonlite)})
version <- function(p) as.character(packageVersion(p))
out <- list(source=list(R=as.character(getRversion()), metafor=version("metafor"), metadat=version("metadat"),
                        clubSandwich=version("clubSandwich")))
# nlminb does not always reach the tightest tolerance; the tightest that it reaches.
tight <- function(...) {
  call <- match.call()
  call[[1]] <- quote(rma.mv)
  for (tol in c(1e-13, 1e-12, 1e-11, 1e-10, 1e-9)) {
    call$control <- list(rel.tol=tol, eval.max=5000, iter.max=5000)
    fit <- try(eval(call, parent.frame()), silent=TRUE)
    if (!inherits(fit, "try-error")) return(fit)
  }
  stop(fit)
}
close <- list(threshold=1e-14, maxiter=10000)

dat <- as.data.frame(escalc(measure="ZCOR", ri=ri, ni=ni, data=dat.crede2010))
dat$es_id <- seq_len(nrow(dat))
for (name in c("source", "criterion", "class")) dat[[name]] <- as.character(dat[[name]])
out$data <- dat[c("studyid", "year", "source", "criterion", "class", "yi", "vi", "ni")]

V <- vcalc(vi, cluster=studyid, obs=es_id, data=dat, rho=0.6)
mv <- function(dat, mods) {
  V <- V[dat$es_id, dat$es_id]
  tight(yi, V=V, mods=mods, random=~ 1 | studyid/es_id, data=dat)
}
htz <- function(fit, rows, dat) {
  test <- Wald_test(fit, constraints=constrain_zero(rows, coefs=coef(fit)), vcov="CR2", cluster=dat$studyid, test="HTZ")
  list(F=test$Fstat, df1=test$df_num, df2=test$df_denom, p=test$p_val)
}
contrasts_of <- function(fit, L, dat) {
  made <- linear_contrast(fit, vcov="CR2", cluster=dat$studyid, contrasts=L, test="Satterthwaite")
  list(b=made$Est, se=made$SE, df=made$df, lb=made$CI_L, ub=made$CI_U)
}
level_rows <- function(name, dat) {
  levels <- sort(unique(dat[[name]]))
  cbind(1, rbind(0, diag(length(levels) - 1)))
}
out$che <- list()
for (name in c("criterion", "source", "class")) {
  part <- dat[!is.na(dat[[name]]), ]
  fit <- mv(part, reformulate(name))
  L <- level_rows(name, part)
  null <- mv(part, ~ 1)
  out$che[[name]] <- c(contrasts_of(fit, L, part), htz(fit, 2:ncol(L), part),
                       list(tau2=sum(fit$sigma2), tau2_none=sum(null$sigma2)))
}
fit <- mv(dat, ~ year)
out$che$year <- c(contrasts_of(fit, rbind(c(0, 1)), dat), htz(fit, 2, dat),
                  list(tau2=sum(fit$sigma2), tau2_none=sum(mv(dat, ~ 1)$sigma2), sd=sd(dat$year)))

# Together: criterion and source, the other evened out, at the mean year.
fit <- mv(dat, ~ criterion + source + year)
at <- mean(dat$year)
L <- rbind(c(1, 0, 1/3, 1/3, at), c(1, 1, 1/3, 1/3, at), c(1, 1/2, 0, 0, at), c(1, 1/2, 1, 0, at), c(1, 1/2, 0, 1, at),
           c(0, 0, 0, 0, 1))
out$joint <- c(contrasts_of(fit, L, dat), list(criterion=htz(fit, 2, dat), source=htz(fit, 3:4, dat), year=htz(fit, 5, dat)))

# Every level its own tau2: the subgroup correlated effects model.
out$sce <- list()
for (name in c("criterion", "source")) {
  dat$level <- dat[[name]]
  V_sub <- vcalc(vi, cluster=studyid, subgroup=level, obs=es_id, data=dat, rho=0.6)
  fit <- tight(yi, V=V_sub, mods=~ level, random=~ level | studyid, struct="DIAG", data=dat)
  L <- level_rows(name, dat)
  out$sce[[name]] <- c(contrasts_of(fit, L, dat), htz(fit, 2:ncol(L), dat),
                       list(tau2=fit$tau2[order(fit$g.levels.f[[1]])]))
}

# Effects taken as independent: one tau2 (z and Knapp-Hartung), and every level by itself.
out$random <- list()
for (name in c("criterion", "source", "class")) {
  part <- dat[!is.na(dat[[name]]), ]
  fit <- rma(yi, vi, mods=reformulate(name), data=part, control=close)
  hk <- rma(yi, vi, mods=reformulate(name), data=part, test="knha", control=close)
  L <- level_rows(name, part)
  means <- lapply(sort(unique(part[[name]])), function(one) {
    fit <- rma(yi, vi, data=part[part[[name]] == one, ], control=close)
    p <- predict(fit)
    c(p$pred, p$se, p$pi.lb, p$pi.ub, sqrt(fit$tau2))
  })
  means <- do.call(rbind, means)
  among <- rma(means[, 1], means[, 2]^2, method="FE")
  p <- predict(hk, newmods=L[, -1, drop=FALSE])
  out$random[[name]] <- list(b=p$pred, lb=p$ci.lb, ub=p$ci.ub, pi_lb=p$pi.lb, pi_ub=p$pi.ub, QM=fit$QM, QMp=fit$QMp,
    F=hk$QM, Fp=hk$QMp, R2=fit$R2, tau=sqrt(fit$tau2), own=means, Qb=among$QE, Qbp=among$QEp)
}
out$holm <- p.adjust(c(out$che$criterion$p, out$che$source$p, out$che$year$p, out$che$class$p), "holm")
write_json(out, "moderator_table.json", digits=I(17), auto_unbox=TRUE, na="null")

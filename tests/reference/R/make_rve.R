# Reference numbers of robust variance estimation.  Rscript make_rve.R   -> rve.json beside it
# robumeta gives coefficients, tau2, omega2, I2 and df; clubSandwich the same CR2 variance and the HTZ tests.
suppressPackageStartupMessages({library(robumeta); library(clubSandwich); library(metadat); library(jsonlite)})
shipped <- function(name) read.csv(file.path("..", "..", "..", "data", "validation", name, paste0(name, ".csv")))
v <- function(x) as.numeric(x)
RR <- function(x) list(b=v(x$reg_table$b.r), se=v(x$reg_table$SE), t=v(x$reg_table$t), dfs=v(x$reg_table$dfs),
  prob=v(x$reg_table$prob), ci_lb=v(x$reg_table$CI.L), ci_ub=v(x$reg_table$CI.U), labels=as.character(x$reg_table$labels),
  tau2=v(x$mod_info$tau.sq), omega2=v(x$mod_info$omega.sq), I2=v(x$mod_info$I.2), N=x$N, M=x$M)
# CR2 with the working covariance that robu uses, its df, and HTZ tests of the rows given (clubSandwich 0.6.0 has none
# for a single coefficient and given weights: an array loses a dimension).
CS <- function(x, rows) { V <- vcovCR(x, type="CR2"); s <- coef_test(x, vcov=V, test="Satterthwaite")
  list(vb=unname(as.matrix(V)), dfs=v(s$df_Satt), htz=if (x$user_weighting && length(x$b.r) == 1) list() else lapply(rows, function(r) { w <- Wald_test(x, constraints=constrain_zero(r), vcov=V, test="HTZ")
    list(rows=r, F=v(w$Fstat), df1=v(w$df_num), df2=v(w$df_denom), p=v(w$p_val)) })) }
both <- function(x, rows=list(1)) c(RR(x), list(clubSandwich=CS(x, rows)))
out <- list(versions=list(R=as.character(getRversion()), robumeta=as.character(packageVersion("robumeta")),
  clubSandwich=as.character(packageVersion("clubSandwich")), metadat=as.character(packageVersion("metadat"))))

o <- shipped("oswald2013_ex1"); o$id <- as.integer(factor(o$study))
fo <- function(f, modelweights="CORR", rho=.8, small=TRUE)
  robu(f, data=o, studynum=id, var.eff.size=var.eff.size, modelweights=modelweights, rho=rho, small=small)
out$oswald <- list()
for (rho in c(0, .2, .4, .5, .6, .8, 1)) out$oswald[[paste0("CORR_", rho)]] <- both(fo(effect.size ~ 1, rho=rho))
out$oswald$CORR_large <- RR(fo(effect.size ~ 1, rho=.8, small=FALSE))
out$oswald$HIER <- both(fo(effect.size ~ 1, modelweights="HIER"))
out$oswald$HIER_mod <- both(fo(effect.size ~ Crit.Cat, modelweights="HIER"), list(1, 2, 1:2))
out$oswald$USER <- both(robu(effect.size ~ 1, data=o, studynum=id, var.eff.size=var.eff.size, userweights=n))
out$oswald$USER_rows <- both(robu(effect.size ~ Crit.Cat, data=o, studynum=id, var.eff.size=var.eff.size, userweights=Crit.ID),
  list(1, 2, 1:2))
out$oswald$USER_large <- RR(robu(effect.size ~ 1, data=o, studynum=id, var.eff.size=var.eff.size, userweights=n, small=FALSE))

t <- shipped("tannersmith2016")
ft <- function(f, modelweights="CORR", small=TRUE)
  robu(f, data=t, studynum=studyid, var.eff.size=vi, modelweights=modelweights, small=small)
out$tannersmith <- list(CORR=both(ft(yi ~ 1)), HIER=both(ft(yi ~ 1, modelweights="HIER")),
  CORR_mod=both(ft(yi ~ aget1 + propmale + sexmix), list(1, 2:3, 4:5, 2:5)),
  HIER_mod=both(ft(yi ~ aget1 + propmale, modelweights="HIER"), list(1, 2:3)),
  CORR_mod_large=RR(ft(yi ~ aget1 + propmale + sexmix, small=FALSE)),
  HIER_mod_large=RR(ft(yi ~ aget1 + propmale, modelweights="HIER", small=FALSE)))

a <- as.data.frame(dat.assink2016); a$yi <- v(a$yi)
fa <- function(f, modelweights="CORR", small=TRUE)
  robu(f, data=a, studynum=study, var.eff.size=vi, modelweights=modelweights, small=small)
out$assink <- list(data=list(source="dat.assink2016 of the R package metadat (GPL >= 2); Assink & Wibbelink (2016)",
    study=a$study, yi=a$yi, vi=v(a$vi), deltype=a$deltype, year=a$year),
  # CORR_mod: one study alone holds a level, and clubSandwich 0.6.0 takes the rounding error of a zero eigenvalue for
  # an eigenvalue (limit 1e-12; robumeta's is 1e-10), so that its df are noise.
  CORR=both(fa(yi ~ 1)), CORR_mod=RR(fa(yi ~ deltype + year)), HIER=both(fa(yi ~ 1, modelweights="HIER")),
  HIER_mod=both(fa(yi ~ deltype + year, modelweights="HIER"), list(1, 2:3, 4, 2:4)), CORR_large=RR(fa(yi ~ 1, small=FALSE)))

cr <- metafor::escalc(measure="ZCOR", ri=r, ni=n, data=shipped("crede2010")); cr$yi <- v(cr$yi)
fc <- function(f, modelweights="CORR", small=TRUE)
  robu(f, data=cr, studynum=study, var.eff.size=vi, modelweights=modelweights, small=small)
out$crede <- list(CORR=both(fc(yi ~ 1)), HIER=both(fc(yi ~ 1, modelweights="HIER")),
  CORR_mod=both(fc(yi ~ criterion + year), list(1, 2, 3, 2:3)), HIER_mod=both(fc(yi ~ criterion + year, modelweights="HIER"), list(1, 2, 3, 2:3)))
writeLines(toJSON(out, digits=NA, auto_unbox=TRUE, null="null", na="null"), "rve.json")

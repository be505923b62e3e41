# One case of dependent effects: Rscript dependent.R CONTENDER KIND FILE BUDGET RHO SIGMA2_STUDY SIGMA2_EFFECT
# FILE has the columns y, v, study, x1, x2, ... The answer is a list of numbers, as in dependent.py; none where the
# contender has no way to do the case.
arguments <- commandArgs(TRUE)
contender <- arguments[1]
kind <- arguments[2]
data <- read.csv(arguments[3])
data$effect <- seq_len(nrow(data))
budget <- as.numeric(arguments[4])
rho <- as.numeric(arguments[5])
sigma2 <- as.numeric(arguments[6:7])

package <- sub("-sparse", "", contender)
suppressPackageStartupMessages(library(package, character.only = TRUE))
has_club <- requireNamespace("clubSandwich", quietly = TRUE)
xs <- grep("^x", names(data), value = TRUE)
right <- reformulate(if (length(xs)) xs else "1")
sparse <- contender == "metafor-sparse"

fit <- function(V, sparse, ...) {
  metafor::rma.mv(y, V, mods = right, random = ~ 1 | study/effect, data = data, sparse = sparse, ...)
}
tested <- function(fitted) {
  found <- clubSandwich::coef_test(fitted, vcov = "CR2", cluster = data$study, test = "Satterthwaite")
  c(found$beta[2], found$SE[2], found$df_Satt[2])
}

run <- NULL
if (package == "metafor" && kind == "three-level") {
  run <- function() { found <- fit(data$v, sparse); c(found$beta[1], found$sigma2) }
} else if (package == "metafor" && kind == "che" && has_club) {
  run <- function() {
    V <- metafor::vcalc(v, cluster = study, obs = effect, rho = rho, data = data)
    tested(fit(V, sparse))
  }
} else if (contender == "metafor" && kind == "impute") {
  run <- function() sum(metafor::vcalc(v, cluster = study, obs = effect, rho = rho, data = data))
} else if (contender == "metafor" && kind == "selection") {
  run <- function() {
    found <- metafor::selmodel(metafor::rma(y, v, data = data, method = "ML"), type = "stepfun", steps = 0.025)
    c(found$beta, found$tau2, found$delta[2])
  }
} else if (contender == "clubSandwich" && kind == "cr2") {
  fitted <- fit(data$v, TRUE, sigma2 = sigma2)
  run <- function() tested(fitted)[2:3]
} else if (contender == "clubSandwich" && kind == "impute") {
  run <- function() sum(unlist(clubSandwich::impute_covariance_matrix(data$v, cluster = data$study, r = rho)))
} else if (contender == "robumeta" && kind == "rve") {
  formula <- update(right, y ~ .)
  run <- function() {
    found <- robumeta::robu(formula, data, studynum = study, var.eff.size = v, rho = rho, small = TRUE)$reg_table
    c(found$b.r[2], found$SE[2], found$dfs[2])
  }
}

if (is.null(run)) {
  cat("null\n")
} else {
  elapsed <- function() { start <- Sys.time(); answer <<- run(); as.numeric(Sys.time() - start, units = "secs") }
  times <- elapsed()
  if (times[1] < budget) {
    times <- numeric(0)
    while (length(times) < 3 || (sum(times) < budget && length(times) < 200)) times <- c(times, elapsed())
  }
  numbers <- function(x) paste(sprintf("%.17g", x), collapse = ", ")
  blas <- if (grepl("openblas", extSoftVersion()["BLAS"])) "OpenBLAS" else "reference BLAS"
  cat(sprintf(
    '{"answer": [%s], "times": [%s], "scale": 1, "method": "REML", "version": "%s, R %s, %s"}\n',
    numbers(answer), numbers(times), packageVersion(package), paste(R.version$major, R.version$minor, sep = "."), blas
  ))
}

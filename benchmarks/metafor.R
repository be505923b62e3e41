# One case by metafor: Rscript metafor.R KIND FILE B SAMPLE BUDGET
# FILE has the columns v, x1, x2, ... and y1 (and v1 is v), or y1, y2, ... and v1, v2, ... where there are many.
suppressPackageStartupMessages(library(metafor))
arguments <- commandArgs(TRUE)
kind <- arguments[1]
data <- read.csv(arguments[2])
B <- as.integer(arguments[3])
sample <- as.integer(arguments[4])
budget <- as.numeric(arguments[5])

xs <- grep("^x", names(data), value = TRUE)
mods <- if (length(xs)) as.matrix(data[xs]) else NULL
fit <- function(j) {
  yi <- data[[paste0("y", j)]]
  vi <- data[[paste0("v", j)]]
  if (is.null(mods)) rma(yi, vi, method = "REML") else rma(yi, vi, mods = mods, method = "REML")
}

scale <- 1
method <- "REML"
if (kind == "fit") {
  run <- function() { found <- fit(1); c(found$beta[1], found$tau2) }
} else if (kind == "left out") {
  fitted <- fit(1)
  run <- function() {
    influence(fitted)
    found <- leave1out(fitted)
    c(mean(found$estimate), mean(found$tau2))
  }
} else if (kind %in% c("step", "beta")) {
  method <- "ML"
  fitted <- rma(data$y1, data$v1, method = "ML")
  run <- function() {
    found <- if (kind == "beta") selmodel(fitted, type = "beta") else selmodel(fitted, type = "stepfun", steps = .025)
    c(found$beta[1], found$tau2)
  }
} else if (kind %in% c("gosh-REML", "gosh-DL")) {
  method <- sub("gosh-", "", kind)
  fitted <- rma(data$y1, data$v1, method = method)
  scale <- B / sample
  run <- function() {
    gosh(fitted, subsets = sample, progbar = FALSE)
    c(fitted$beta[1], fitted$tau2)
  }
} else if (kind == "multiverse") {
  # Without each effect in turn, by one estimator and inference after the other.
  scale <- B / sample
  methods <- rep(c("REML", "ML", "PM", "DL", "HE", "SJ", "EE"), length.out = sample)
  tests <- rep(c("z", "t", "knha", "adhoc"), length.out = sample)
  run <- function() {
    for (j in seq_len(sample)) rma(data$y1[-j], data$v1[-j], method = methods[j], test = tests[j])
    found <- fit(1)
    c(found$beta[1], found$tau2)
  }
} else if (kind == "permutation") {
  fitted <- fit(1)
  scale <- B / sample
  run <- function() {
    permutest(fitted, iter = sample, progbar = FALSE)
    c(fitted$beta[1], fitted$tau2)
  }
} else {
  scale <- B / sample
  run <- function() rowMeans(sapply(seq_len(sample), function(j) { found <- fit(j); c(found$beta[1], found$tau2) }))
}

elapsed <- function() { start <- Sys.time(); answer <<- run(); as.numeric(Sys.time() - start, units = "secs") }
times <- elapsed()
if (times[1] < budget) {
  times <- numeric(0)
  while (length(times) < 3 || (sum(times) < budget && length(times) < 200)) times <- c(times, elapsed())
}
blas <- if (grepl("openblas", extSoftVersion()["BLAS"])) "OpenBLAS" else "reference BLAS"
cat(sprintf(
  '{"answer": [%.17g, %.17g], "times": [%s], "scale": %.17g, "method": "%s", "version": "%s, R %s, %s"}\n',
  answer[1], answer[2], paste(sprintf("%.9f", times), collapse = ", "), scale, method,
  packageVersion("metafor"), paste(R.version$major, R.version$minor, sep = "."), blas
))

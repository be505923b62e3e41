# One Bayesian case: Rscript bayesian.R CONTENDER KIND FILE BUDGET
# FILE has the columns y1 and v1. The answer is a list of numbers, as in bayesian.py; none where the contender has no
# way to do the case. Times are those of the processor.
arguments <- commandArgs(TRUE)
contender <- arguments[1]
kind <- arguments[2]
data <- read.csv(arguments[3])
budget <- as.numeric(arguments[4])
suppressPackageStartupMessages(library(contender, character.only = TRUE))
y <- data$y1
se <- sqrt(as.numeric(data$v1))

run <- NULL
if (contender == "bayesmeta" && kind == "everything") {
  run <- function() {
    found <- bayesmeta(
      y, se, mu.prior.mean = 0, mu.prior.sd = 1, tau.prior = function(t) dhalfnormal(t, scale = 0.3),
      interval.type = "central"
    )
    table <- found$summary
    c(log(found$marginal.likelihood), table["mean", "mu"], table["sd", "mu"], table["mean", "tau"])
  }
} else if (contender == "RoBMA" && kind == "robma") {
  run <- function() {
    fitted <- RoBMA(y = y, se = se, chains = 2, sample = 5000, autofit = FALSE, seed = 1, silent = TRUE)
    found <- summary(fitted)
    c(log(as.numeric(found$components[1:3, "inclusion_BF"])), found$estimates["mu", "Mean"])
  }
}

if (is.null(run)) {
  cat("null\n")
} else {
  # Of this process and of those it started.
  elapsed <- function() { start <- proc.time(); answer <<- run(); sum((proc.time() - start)[c(1, 2, 4, 5)]) }
  times <- elapsed()
  if (times[1] < budget) {
    times <- numeric(0)
    while (length(times) < 3 || (sum(times) < budget && length(times) < 200)) times <- c(times, elapsed())
  }
  numbers <- function(x) paste(sprintf("%.17g", x), collapse = ", ")
  cat(sprintf(
    '{"answer": [%s], "times": [%s], "scale": 1, "method": "%s", "version": "%s, R %s"}\n',
    numbers(answer), numbers(times), if (contender == "bayesmeta") "grid" else "bridge",
    packageVersion(contender), paste(R.version$major, R.version$minor, sep = ".")
  ))
}

# Reference values for selection models of dependent effects: metaselection.json, read by test_dependent_selection.py.
# Run with R 4.2.2, metadat 1.2-0 and the source of metaselection 0.1.5 (github.com/jepusto/metaselection, ac99bd1):
#   Rscript make_metaselection.R FOLDER_OF_METASELECTION
# Its equations are used as they are. They are solved by Newton's method to the end, its optimisers being stopped early;
# ARGL's sandwich takes derivatives of its equations by differences, since its own leave out which effects a weight is for.
suppressPackageStartupMessages({library(metadat); library(jsonlite)})
folder <- commandArgs(TRUE)[1]
for (one in c("step-utilities", "step-function", "hybrid-estimating", "beta-utilities", "beta-function", "define-priors"))
  source(file.path(folder, "R", paste0(one, ".R")))

differences <- function(f, x, h = 1e-4) sapply(seq_along(x), function(j) {
  e <- replace(0 * x, j, h)
  (8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * h)
})
newton <- function(f, x) {
  for (i in 1:60) {
    step <- -solve(differences(f, x), f(x))
    x <- x + step
    if (max(abs(step)) < 1e-13) break
  }
  x
}

fit <- function(data, steps, estimator, priors, type = "step") {
  args <- list(yi = data$yi, sei = sqrt(data$vi), steps = steps, priors = priors)
  of <- function(f, ...) function(x) as.numeric(do.call(f, c(list(theta = x), args, list(...))))
  loglik <- of(if (type == "step") step_loglik else beta_loglik)
  score <- if (type == "step") step_score else beta_score
  d <- if (type == "step") length(steps) else 2
  start <- c(weighted.mean(data$yi, 1 / data$vi), log(max(1e-4, var(data$yi) - mean(data$vi))), rep(0, d))
  x <- optim(start, loglik, of(score), method = "BFGS", control = list(fnscale = -1, maxit = 1000, reltol = 1e-14))$par
  x <- newton(of(score), x)
  equations <- if (estimator == "ARGL") step_hybrid_score else score
  if (estimator == "ARGL") x <- newton(of(equations), x)
  parts <- do.call(equations, c(list(theta = x), args, list(contributions = TRUE)))
  meat <- crossprod(rowsum(parts, data$study))
  J <- differences(of(equations), x)
  out <- list(theta = x, se = sqrt(diag(solve(J) %*% meat %*% t(solve(J)))), jacobian = J,
              loglik = { args$priors <- NULL; loglik(x) } - length(data$yi) * log(2 * base::pi) / 2)
  if (estimator == "ARGL") {
    own <- do.call(step_hybrid_jacobian, c(list(theta = x), args))
    out$se_own <- sqrt(diag(solve(own) %*% meat %*% t(solve(own))))
  }
  out
}

lehmann <- dat.lehmann2018
ego <- readRDS(file.path(folder, "research/step-function-paper/ego-depletion/Carter-et-al-data.rds"))
ego <- ego[which(ego$pub_type == 1 & ego$yi < 2), ]
load(file.path(folder, "data/self_control.rda"))
sets <- list(
  lehmann = data.frame(yi = as.numeric(lehmann$yi), vi = lehmann$vi, study = as.integer(factor(lehmann$Full_Citation))),
  ego = data.frame(yi = ego$yi, vi = ego$vi, study = ego$study_id),
  self_control = data.frame(yi = self_control$g, vi = self_control$se_g^2, study = self_control$studyid)
)
out <- list(versions = list(R = paste(R.version$major, R.version$minor, sep = "."), metaselection = "0.1.5 (ac99bd1)"))
for (name in names(sets)) {
  data <- sets[[name]]
  fits <- list()
  for (priors in c(FALSE, TRUE)) {
    p <- if (priors) define_priors() else NULL
    label <- if (priors) "penalised" else "plain"
    fits[[label]] <- list(
      CML_3 = fit(data, .025, "CML", p), CML_4 = fit(data, c(.025, .5), "CML", p),
      ARGL_3 = fit(data, .025, "ARGL", p), ARGL_4 = fit(data, c(.025, .5), "ARGL", p)
    )
    if (name == "lehmann") fits[[label]]$beta <- fit(data, c(.025, .975), "CML", p, "beta")
  }
  out[[name]] <- list(data = as.list(data), fits = fits)
}
write_json(out, "metaselection.json", digits = 15, auto_unbox = TRUE)

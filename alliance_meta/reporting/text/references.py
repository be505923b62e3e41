"""The references of methods and data: which a fit needs, as a list with links, and as BibTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

REFERENCES: dict[str, str] = {
    "bartos2022": "Bartoš, F., & Schimmack, U. (2022). Z-curve 2.0: Estimating replication rates and discovery rates. "
    "*Meta-Psychology*, 6. https://doi.org/10.15626/MP.2021.2720",
    "begg1994": "Begg, C. B., & Mazumdar, M. (1994). Operating characteristics of a rank correlation test for "
    "publication bias. *Biometrics*, 50(4), 1088–1101. https://doi.org/10.2307/2533446",
    "borenstein2009": "Borenstein, M., Hedges, L. V., Higgins, J. P. T., & Rothstein, H. R. (2009). *Introduction to "
    "meta-analysis*. Wiley.",
    "citkowicz2017": "Citkowicz, M., & Vevea, J. L. (2017). A parsimonious weight function for modeling publication "
    "bias. *Psychological Methods*, 22(1), 28–41. https://doi.org/10.1037/met0000119",
    "cochran1954": "Cochran, W. G. (1954). The combination of estimates from different experiments. "
    "*Biometrics*, 10(1), 101–129. https://doi.org/10.2307/3001666",
    "copas2001": "Copas, J. B., & Shi, J. Q. (2001). A sensitivity analysis for publication bias in systematic "
    "reviews. *Statistical Methods in Medical Research*, 10(4), 251–265. "
    "https://doi.org/10.1177/096228020101000402",
    "dersimonian1986": "DerSimonian, R., & Laird, N. (1986). Meta-analysis in clinical trials. "
    "*Controlled Clinical Trials*, 7(3), 177–188. https://doi.org/10.1016/0197-2456(86)90046-2",
    "dersimonian2007": "DerSimonian, R., & Kacker, R. (2007). Random-effects model for meta-analysis of clinical "
    "trials: An update. *Contemporary Clinical Trials*, 28(2), 105–114. https://doi.org/10.1016/j.cct.2006.04.004",
    "duval2000": "Duval, S., & Tweedie, R. (2000). Trim and fill: A simple funnel-plot-based method of testing and "
    "adjusting for publication bias in meta-analysis. *Biometrics*, 56(2), 455–463. "
    "https://doi.org/10.1111/j.0006-341X.2000.00455.x",
    "egger1997": "Egger, M., Davey Smith, G., Schneider, M., & Minder, C. (1997). Bias in meta-analysis detected by a "
    "simple, graphical test. *BMJ*, 315(7109), 629–634. https://doi.org/10.1136/bmj.315.7109.629",
    "farber2011": "Farber, B. A., & Doolin, E. M. (2011). Positive regard. *Psychotherapy*, 48(1), 58–64. "
    "https://doi.org/10.1037/a0022141",
    "fisher1921": "Fisher, R. A. (1921). On the “probable error” of a coefficient of correlation deduced from a "
    "small sample. *Metron*, 1, 3–32.",
    "guyatt2008": "Guyatt, G. H., Oxman, A. D., Vist, G. E., Kunz, R., Falck-Ytter, Y., Alonso-Coello, P., & "
    "Schünemann, H. J. (2008). GRADE: An emerging consensus on rating quality of evidence and strength of "
    "recommendations. *BMJ*, 336(7650), 924–926. https://doi.org/10.1136/bmj.39489.470347.AD",
    "hafdahl2009": "Hafdahl, A. R. (2009). Improved Fisher z estimators for univariate random-effects meta-analysis "
    "of correlations. *British Journal of Mathematical and Statistical Psychology*, 62(2), 233–261. "
    "https://doi.org/10.1348/000711008X281633",
    "hardy1996": "Hardy, R. J., & Thompson, S. G. (1996). A likelihood approach to meta-analysis with random effects. "
    "*Statistics in Medicine*, 15(6), 619–629.",
    "hedges1983": "Hedges, L. V. (1983). A random effects model for effect sizes. *Psychological Bulletin*, 93(2), "
    "388–395. https://doi.org/10.1037/0033-2909.93.2.388",
    "hedges1989": "Hedges, L. V. (1989). An unbiased correction for sampling error in validity generalization studies. "
    "*Journal of Applied Psychology*, 74(3), 469–477. https://doi.org/10.1037/0021-9010.74.3.469",
    "hedges2010": "Hedges, L. V., Tipton, E., & Johnson, M. C. (2010). Robust variance estimation in meta-regression "
    "with dependent effect size estimates. *Research Synthesis Methods*, 1(1), 39–65. https://doi.org/10.1002/jrsm.5",
    "hedgesolkin1985": "Hedges, L. V., & Olkin, I. (1985). *Statistical methods for meta-analysis*. Academic Press.",
    "henmi2010": "Henmi, M., & Copas, J. B. (2010). Confidence intervals for random effects meta-analysis and "
    "robustness to publication bias. *Statistics in Medicine*, 29(29), 2969–2983. https://doi.org/10.1002/sim.4029",
    "higgins2002": "Higgins, J. P. T., & Thompson, S. G. (2002). Quantifying heterogeneity in a meta-analysis. "
    "*Statistics in Medicine*, 21(11), 1539–1558. https://doi.org/10.1002/sim.1186",
    "higgins2009": "Higgins, J. P. T., Thompson, S. G., & Spiegelhalter, D. J. (2009). A re-evaluation of "
    "random-effects meta-analysis. *Journal of the Royal Statistical Society: Series A*, 172(1), 137–159. "
    "https://doi.org/10.1111/j.1467-985X.2008.00552.x",
    "hunter2004": "Hunter, J. E., & Schmidt, F. L. (2004). *Methods of meta-analysis: Correcting error and bias in "
    "research findings* (2nd ed.). Sage.",
    "ioannidis2007": "Ioannidis, J. P. A., & Trikalinos, T. A. (2007). An exploratory test for an excess of "
    "significant findings. *Clinical Trials*, 4(3), 245–253. https://doi.org/10.1177/1740774507079441",
    "ioannidis2017": "Ioannidis, J. P. A., Stanley, T. D., & Doucouliagos, H. (2017). The power of bias in economics "
    "research. *The Economic Journal*, 127(605), F236–F265. https://doi.org/10.1111/ecoj.12461",
    "knapp2003": "Knapp, G., & Hartung, J. (2003). Improved tests for a random effects meta-regression with a single "
    "covariate. *Statistics in Medicine*, 22(17), 2693–2710. https://doi.org/10.1002/sim.1482",
    "kolden2011": "Kolden, G. G., Klein, M. H., Wang, C.-C., & Austin, S. B. (2011). Congruence/genuineness. "
    "*Psychotherapy*, 48(1), 65–71. https://doi.org/10.1037/a0022064",
    "konstantopoulos2011": "Konstantopoulos, S. (2011). Fixed effects and variance components estimation in "
    "three-level meta-analysis. *Research Synthesis Methods*, 2(1), 61–76. https://doi.org/10.1002/jrsm.35",
    "maassen2020": "Maassen, E., van Assen, M. A. L. M., Nuijten, M. B., Olsson-Collentine, A., & Wicherts, "
    "J. M. (2020). Reproducibility of individual effect sizes in meta-analyses in psychology. *PLoS ONE*, 15(5), "
    "e0233107. https://doi.org/10.1371/journal.pone.0233107",
    "mathur2020": "Mathur, M. B., & VanderWeele, T. J. (2020). Sensitivity analysis for publication bias in "
    "meta-analyses. *Journal of the Royal Statistical Society: Series C*, 69(5), 1091–1119. "
    "https://doi.org/10.1111/rssc.12440",
    "mathur2024": "Mathur, M. B. (2024). P-hacking in meta-analyses: A formalization and new meta-analytic methods. "
    "*Research Synthesis Methods*, 15(3), 483–499. https://doi.org/10.1002/jrsm.1701",
    "morris1983": "Morris, C. N. (1983). Parametric empirical Bayes inference: Theory and applications. "
    "*Journal of the American Statistical Association*, 78(381), 47–55. https://doi.org/10.1080/01621459.1983.10477920",
    "olkin1958": "Olkin, I., & Pratt, J. W. (1958). Unbiased estimation of certain correlation coefficients. "
    "*The Annals of Mathematical Statistics*, 29(1), 201–211. https://doi.org/10.1214/aoms/1177706717",
    "paule1982": "Paule, R. C., & Mandel, J. (1982). Consensus values and weighting factors. *Journal of Research of "
    "the National Bureau of Standards*, 87(5), 377–385. https://doi.org/10.6028/jres.087.022",
    "pustejovsky2018": "Pustejovsky, J. E., & Tipton, E. (2018). Small-sample methods for cluster-robust variance "
    "estimation and hypothesis testing in fixed effects models. *Journal of Business & Economic Statistics*, 36(4), "
    "672–683. https://doi.org/10.1080/07350015.2016.1247004",
    "pustejovsky2022": "Pustejovsky, J. E., & Tipton, E. (2022). Meta-analysis with robust variance estimation: "
    "Expanding the range of working models. *Prevention Science*, 23(3), 425–438. "
    "https://doi.org/10.1007/s11121-021-01246-3",
    "rodgers2021": "Rodgers, M. A., & Pustejovsky, J. E. (2021). Evaluating meta-analytic methods to detect selective "
    "reporting in the presence of dependent effect sizes. *Psychological Methods*, 26(2), 141–160. "
    "https://doi.org/10.1037/met0000300",
    "rosenthal1979": "Rosenthal, R. (1979). The file drawer problem and tolerance for null results. *Psychological "
    "Bulletin*, 86(3), 638–641. https://doi.org/10.1037/0033-2909.86.3.638",
    "rover2015": "Röver, C., Knapp, G., & Friede, T. (2015). Hartung-Knapp-Sidik-Jonkman approach and its modification "
    "for random-effects meta-analysis with few studies. *BMC Medical Research Methodology*, 15, 99. "
    "https://doi.org/10.1186/s12874-015-0091-1",
    "rover2020": "Röver, C. (2020). Bayesian random-effects meta-analysis using the bayesmeta R package. "
    "*Journal of Statistical Software*, 93(6), 1–51. https://doi.org/10.18637/jss.v093.i06",
    "rover2021": "Röver, C., Bender, R., Dias, S., Schmid, C. H., Schmidli, H., Sturtz, S., Weber, S., & Friede, T. "
    "(2021). On weakly informative prior distributions for the heterogeneity parameter in Bayesian random-effects "
    "meta-analysis. *Research Synthesis Methods*, 12(4), 448–474. https://doi.org/10.1002/jrsm.1475",
    "rucker2011": "Rücker, G., Schwarzer, G., Carpenter, J. R., Binder, H., & Schumacher, M. (2011). Treatment-effect "
    "estimates adjusted for small-study effects via a limit meta-analysis. *Biostatistics*, 12(1), 122–142. "
    "https://doi.org/10.1093/biostatistics/kxq046",
    "sidik2005": "Sidik, K., & Jonkman, J. N. (2005). Simple heterogeneity variance estimation for meta-analysis. "
    "*Journal of the Royal Statistical Society: Series C*, 54(2), 367–384. "
    "https://doi.org/10.1111/j.1467-9876.2005.00489.x",
    "simonsohn2015": "Simonsohn, U., Simmons, J. P., & Nelson, L. D. (2015). Better p-curves. *Journal of Experimental "
    "Psychology: General*, 144(6), 1146–1152. https://doi.org/10.1037/xge0000104",
    "stanley2014": "Stanley, T. D., & Doucouliagos, H. (2014). Meta-regression approximations to reduce publication "
    "selection bias. *Research Synthesis Methods*, 5(1), 60–78. https://doi.org/10.1002/jrsm.1095",
    "stanley2015": "Stanley, T. D., & Doucouliagos, H. (2015). Neither fixed nor random: Weighted least squares "
    "meta-analysis. *Statistics in Medicine*, 34(13), 2116–2127. https://doi.org/10.1002/sim.6481",
    "stanley2024": "Stanley, T. D., Doucouliagos, H., & Havranek, T. (2024). Meta-analyses of partial correlations are "
    "biased: Detection and solutions. *Research Synthesis Methods*, 15(2), 313–325. "
    "https://doi.org/10.1002/jrsm.1704",
    "tipton2015": "Tipton, E. (2015). Small sample adjustments for robust variance estimation with meta-regression. "
    "*Psychological Methods*, 20(3), 375–393. https://doi.org/10.1037/met0000011",
    "tipton2015htz": "Tipton, E., & Pustejovsky, J. E. (2015). Small-sample adjustments for tests of moderators and "
    "model fit using robust variance estimation in meta-regression. *Journal of Educational and Behavioral "
    "Statistics*, 40(6), 604–634. https://doi.org/10.3102/1076998615606099",
    "vanaert": "van Aert, R. C. M., & van Assen, M. A. L. M. (2025). *Correcting for publication bias in a "
    "meta-analysis with the p-uniform\\* method*. MetaArXiv. https://doi.org/10.31222/osf.io/zqjr9",
    "vevea1995": "Vevea, J. L., & Hedges, L. V. (1995). A general linear model for estimating effect size in the "
    "presence of publication bias. *Psychometrika*, 60(3), 419–435. https://doi.org/10.1007/BF02294384",
    "viechtbauer2005": "Viechtbauer, W. (2005). Bias and efficiency of meta-analytic variance estimators in the "
    "random-effects model. *Journal of Educational and Behavioral Statistics*, 30(3), 261–293. "
    "https://doi.org/10.3102/10769986030003261",
    "viechtbauer2007": "Viechtbauer, W. (2007). Confidence intervals for the amount of heterogeneity in meta-analysis. "
    "*Statistics in Medicine*, 26(1), 37–52. https://doi.org/10.1002/sim.2514",
    "viechtbauer2010": "Viechtbauer, W. (2010). Conducting meta-analyses in R with the metafor package. "
    "*Journal of Statistical Software*, 36(3), 1–48. https://doi.org/10.18637/jss.v036.i03",
}

_DOI = re.compile(r"(?:https://doi\.org/|doi:)(10\.\d{4,}/[^\s;,]*[^\s;,.])")
_MEASURES = {"ZCOR": ("fisher1921", "hafdahl2009"), "COR": ("hedges1989",), "UCOR": ("olkin1958", "hedges1989")}
_METHODS = {
    "REML": ("viechtbauer2005",),
    "DL": ("dersimonian1986",),
    "HE": ("hedges1983", "hedgesolkin1985"),
    "HS": ("hunter2004",),
    "ML": ("hardy1996",),
    "EB": ("morris1983",),
    "PM": ("paule1982",),
    "SJ": ("sidik2005",),
    "SJIT": ("sidik2005",),
    "HSk": ("hunter2004",),
    "PMM": ("paule1982",),
    "GENQ": ("dersimonian2007",),
    "GENQM": ("dersimonian2007",),
    "DLIT": ("dersimonian1986", "dersimonian2007"),
    "DL2": ("dersimonian2007",),
    "HE2": ("dersimonian2007",),
    "EE": ("hedgesolkin1985",),
}
_TESTS = {"knha": ("knapp2003", "rover2015"), "adhoc": ("knapp2003", "rover2015")}
_ALWAYS = ("cochran1954", "higgins2002", "higgins2009", "viechtbauer2007", "viechtbauer2010")


def method_keys(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys of the methods that fits with these settings used, sorted.

    Besides ``measure``, ``method`` and ``test`` a setting may name ``aggregate``, ``robust`` and, for anything but a
    random-effects model, the keys of its ``model``.
    """
    keys: set[str] = set()
    for one in settings:
        keys.update(_MEASURES.get(str(one["measure"]), ()))
        if "model" in one:
            keys.update(one["model"])
        else:
            keys.update(_ALWAYS)
            keys.update(_TESTS.get(str(one["test"]), ()))
        keys.update(_METHODS.get(str(one.get("method")), ()))
        if one.get("aggregate") is not None:
            keys.add("borenstein2009")
        if one.get("robust") is not None:
            keys.update(("pustejovsky2018", "tipton2015", "tipton2015htz"))
    return sorted(keys)


def reference_list(keys: Iterable[str], sources: Iterable[str] = ()) -> list[str]:
    """Return references as prose with links, in alphabetical order, each once.

    A source is split at semicolons; a part whose DOI is known here is written out in full, and one without a year
    or DOI is no reference.
    """
    texts = {linked(REFERENCES[key]) for key in keys}
    parts = (part.strip() for source in sources for part in source.split(";"))
    texts |= {_full_reference(part) for part in parts if _DATED.search(part)}
    return sorted(texts, key=lambda text: text.replace("*", "").casefold())


def linked(text: str) -> str:
    """Turn DOIs into links.

    >>> linked("A (2001). Title. https://doi.org/10.1000/x")
    'A (2001). Title. [doi.org/10.1000/x](https://doi.org/10.1000/x)'
    >>> linked("A (2001), doi:10.1000/x.")
    'A (2001), [doi.org/10.1000/x](https://doi.org/10.1000/x).'
    """
    return _DOI.sub(_link, text)


def linked_doi(text: str) -> str:
    """Turn a text that is nothing but a DOI into a link, whatever signs it holds; another stays as it is.

    >>> linked_doi("10.1002/1097-4679(196804)24:2<244::AID-X>3.0.CO;2-5")
    '[doi.org/10.1002/1097-4679(196804)24:2<244::AID-X>3.0.CO;2-5](https://doi.org/10.1002/1097-4679%28196804%2924...'
    >>> linked_doi("see the appendix")
    'see the appendix'
    """
    found = re.fullmatch(r"(?:https://doi\.org/|doi:)?(10\.\d{4,}/\S+)", text.strip())
    return _link(found) if found else text


def _link(match: re.Match[str]) -> str:
    doi = match[1]
    return f"[doi.org/{doi}](https://doi.org/{quote(doi, safe='/:;')})"


def _full_reference(source: str) -> str:
    found = _DOI.search(source)
    if found:
        for reference in REFERENCES.values():
            if reference.endswith(f"/{found[1]}"):
                return linked(reference)
    return linked(source.removeprefix("data: "))


_DATED = re.compile(r"\b(18|19|20)\d\d\b|10\.\d{4,9}/")
_PARTS = re.compile(
    r"(?P<author>.+?) \((?P<year>\d{4})\)\. (?P<title>.+?[.?])"
    r"(?: \*(?P<journal>[^*]+)\*, (?P<volume>\d+)(?:\((?P<number>[^)]+)\))?(?:, (?P<pages>[^.\s]+))?\."
    r"| (?P<publisher>[^*.]+)\.)"
)
_AUTHORS = re.compile(r", (?:& )?(?=[^,]+, (?:\w|-)+\.)")
_TEX = re.compile(r"([&%#_$])")


def bibtex(keys: Iterable[str]) -> str:
    """Return references as BibTeX: articles with journal, volume and pages, anything else as it stands in a note.

    >>> print(bibtex(["borenstein2009"]))
    @book{borenstein2009,
      author = {Borenstein, M. and Hedges, L. V. and Higgins, J. P. T. and Rothstein, H. R.},
      year = {2009},
      title = {Introduction to meta-analysis},
      publisher = {Wiley},
    }
    <BLANKLINE>
    """
    return "\n".join(_entry(key, REFERENCES[key]) for key in keys)


def _entry(key: str, reference: str) -> str:
    found, doi = _PARTS.match(reference), _DOI.search(reference)
    fields = {"note": reference} if found is None else {k: v for k, v in found.groupdict().items() if v}
    if found is not None:
        fields["author"] = " and ".join(_AUTHORS.split(fields["author"]))
        fields["title"] = fields["title"].replace("*", "").removesuffix(".")
        fields["pages"] = fields.get("pages", "").replace("–", "--")
    fields["doi"] = doi[1] if doi else ""
    kind = "misc" if found is None else "article" if found["journal"] else "book"
    lines = [f"  {name} = {{{_TEX.sub(_escaped, text)}}}," for name, text in fields.items() if text]
    return "\n".join([f"@{kind}{{{key},", *lines, "}", ""])


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[1]}"

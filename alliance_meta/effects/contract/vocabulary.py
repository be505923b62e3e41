"""Controlled vocabularies: the words a coding sheet may hold where the alliance field codes alike."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Term(BaseModel):
    """One word of a vocabulary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: str = Field(min_length=1)  # the word as it stands in the sheet
    meaning: str = Field(min_length=1)  # what it stands for
    # Other words for the same thing: in a coding sheet they are answered with this one and stay as they are; in a table
    # of another program (`read`) they become it, and the mapping says so.
    also: tuple[str, ...] = ()


class Vocabulary(BaseModel):
    """The words one or several columns share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    terms: tuple[Term, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_word_has_one_place(self) -> Vocabulary:
        values = [plain(term.value) for term in self.terms]
        others = {plain(word) for term in self.terms for word in term.also}
        if len(set(values)) < len(values) or others & set(values):
            raise ValueError(f"vocabulary {self.name}: a word stands twice")
        return self

    @cached_property
    def values(self) -> tuple[str, ...]:
        """The words."""
        return tuple(term.value for term in self.terms)

    @cached_property
    def _by_plain(self) -> dict[str, str]:
        return {plain(term.value): term.value for term in self.terms}

    @cached_property
    def _hints(self) -> dict[str, str]:
        also = {plain(word): term.value for term in self.terms for word in (term.meaning, *term.also)}
        return also | self._by_plain

    def spelling(self, text: str) -> str | None:
        """Return the word that `text` is, but for case, spaces, hyphens and underscores; else None."""
        return self._by_plain.get(plain(text))

    def word(self, text: str) -> str | None:
        """Return the word for what `text` says: itself, another word for the same or its meaning; nothing similar."""
        return self._hints.get(plain(text))

    def nearest(self, text: str) -> str | None:
        """Return the word that `text` seems to mean, or None."""
        key = plain(text)
        if key in self._hints:
            return self._hints[key]
        close = get_close_matches(key, list(self._hints), n=1, cutoff=0.75)
        return self._hints[close[0]] if close else None

    def extended(self, terms: tuple[Term, ...]) -> Vocabulary:
        """Return the vocabulary with further words; those it has already are left out."""
        new = tuple(term for term in terms if plain(term.value) not in self._by_plain)
        return Vocabulary(name=self.name, terms=(*self.terms, *new)) if new else self


def plain(text: str) -> str:
    """Return text without what two spellings of one word may differ in.

    >>> plain("Day-Hospital") == plain("day_hospital")
    True
    """
    text = text.casefold()
    return "".join(character for character in text if character not in " -_\t\xa0") or text


def vocabulary(name: str, *rows: tuple[str, ...]) -> Vocabulary:
    """Make a vocabulary of rows (word, meaning, other words...)."""
    return Vocabulary(name=name, terms=tuple(Term(value=row[0], meaning=row[1], also=row[2:]) for row in rows))


_MIXED = ("mixed", "several of these, not separable")

ALLIANCE_MEASURES = vocabulary(
    "alliance_measure",
    ("WAI", "Working Alliance Inventory, 36 items"),
    ("WAI-S", "Working Alliance Inventory, short form", "WAI-12"),
    ("WAI-SR", "Working Alliance Inventory, short revised form"),
    ("CALPAS", "California Psychotherapy Alliance Scales"),
    ("HAq", "Helping Alliance Questionnaire"),
    ("HAq-II", "Helping Alliance Questionnaire, revised", "HAQ2"),
    ("VPPS", "Vanderbilt Psychotherapy Process Scale"),
    ("VTAS", "Vanderbilt Therapeutic Alliance Scale"),
    ("TAS", "Therapeutic Alliance Scale"),
    ("TASC-r", "Therapeutic Alliance Scale for Children, revised", "TASC"),
    ("TAQS", "Therapeutic Alliance Quality Scale"),
    ("SRS", "Session Rating Scale"),
    ("CSRS", "Child Session Rating Scale"),
    ("SOFTA", "System for Observing Family Therapy Alliances, rated by observers", "SOFTA-o"),
    ("SOFTA-s", "System for Observing Family Therapy Alliances, rated by clients or therapists"),
    ("WAI-O", "Working Alliance Inventory, rated by observers", "WAI-observer"),
    ("WAI-I", "Working Alliance Inventory for interventions on the internet"),
    ("D-WAI", "Digital Working Alliance Inventory"),
    ("mARM", "mobile Agnew Relationship Measure", "mobile ARM"),
    ("ARM", "Agnew Relationship Measure", "ARM-5", "ARM-12"),
    ("PHAS", "Penn Helping Alliance Scales, rated by observers", "Penn"),
    ("HAcs", "Penn Helping Alliance counting signs method"),
    ("HAr", "Penn Helping Alliance rating method"),
    ("TARS", "Therapeutic Alliance Rating Scale"),
    ("CALTARS", "California Therapeutic Alliance Rating System", "CALTRS"),
    ("ITAS", "Integrative Psychotherapy Alliance Scale, individual therapy"),
    ("CTAS", "Integrative Psychotherapy Alliance Scale, couple therapy"),
    ("FTAS", "Integrative Psychotherapy Alliance Scale, family therapy"),
    ("TSR", "Therapy Session Report"),
    ("BLRI", "Barrett-Lennard Relationship Inventory", "RI"),
    ("TPOCS-A", "Therapy Process Observational Coding System, alliance scale"),
    ("TASCP", "Therapeutic Alliance Scale for Caregivers and Parents"),
    ("GQ", "Group Questionnaire"),
    ("GCQ", "Group Climate Questionnaire, which rates the climate of a group and no alliance"),
    ("other", "any other measure; write its name into note"),
)
OUTCOME_MEASURES = vocabulary(
    "outcome_measure",
    ("OQ-45.2", "Outcome Questionnaire", "OQ-45", "OQ"),
    ("BDI", "Beck Depression Inventory, either edition", "BDI-II", "BDI-I"),
    ("HRSD", "Hamilton Rating Scale for Depression", "HAM-D", "HDRS"),
    ("SCL-90-R", "Symptom Checklist", "SCL-90", "GSI"),
    ("BSI", "Brief Symptom Inventory"),
    ("CORE-OM", "Clinical Outcomes in Routine Evaluation, outcome measure", "CORE"),
    ("PHQ-9", "Patient Health Questionnaire, depression"),
    ("GAD-7", "Generalised Anxiety Disorder scale"),
    ("GAF", "Global Assessment of Functioning"),
    ("ORS", "Outcome Rating Scale, as feedback-informed treatment uses it", "FIT"),
    ("IIP", "Inventory of Interpersonal Problems, any length", "IIP-32", "IIP-64"),
    ("dropout", "whether the client left therapy early", "attrition"),
    ("other", "any other measure; write its name into note"),
)
RATERS = vocabulary(
    "rater",
    ("client", "the client", "patient", "self", "self-report", "child", "youth", "consumer"),
    ("therapist", "the therapist", "clinician", "counsellor", "counselor", "provider"),
    ("observer", "an outside observer or judge", "rater", "judge", "independent assessor"),
    ("parent", "a parent or caregiver", "mother", "father", "caregiver"),
    ("member", "a member of a group", "group member"),
    ("significant other", "a partner, relative or friend", "partner", "spouse", "relative"),
)
COMPONENTS = vocabulary(
    "alliance_component",
    ("goal", "agreement on goals", "goals"),
    ("task", "agreement on tasks", "tasks"),
    ("bond", "the emotional bond", "bonds"),
    ("total", "the whole score", "overall", "all", "global"),
)
TYPES = vocabulary(
    "alliance_type",
    ("individual", "one client and the therapist", "dyadic"),
    ("member-leader", "a group member and the leader", "member-therapist"),
    ("group", "the group as a whole", "member-group", "cohesion"),
    ("within-family", "among the members of a family", "within-system", "shared purpose"),
    ("split", "the difference between members of a family or couple", "split alliance", "unbalanced"),
)
TIMES = vocabulary(
    "alliance_time",
    ("early", "up to about the fifth session", "first", "beginning", "start"),
    ("mid", "the middle of therapy", "middle"),
    ("late", "towards the end of therapy", "end", "last", "termination"),
    ("averaged", "several sessions taken together", "average", "mean", "aggregated", "mixed"),
    ("change", "the change of the alliance over sessions", "slope", "growth", "development"),
)
MODALITIES = vocabulary(
    "modality",
    ("CBT", "cognitive, behavioural or both", "cognitive behavioural therapy", "cognitive", "behavioural", "CT", "BT"),
    ("psychodynamic", "psychodynamic or psychoanalytic", "dynamic", "PDT", "psychoanalytic", "analytic", "STPP"),
    ("IPT", "interpersonal therapy", "interpersonal"),
    ("humanistic/experiential", "person-centred, experiential, Gestalt, emotion-focused", "humanistic", "experiential",
     "person-centred", "client-centred", "client-centered", "EFT"),
    ("systemic", "systemic or family therapy", "family therapy"),
    ("integrative", "integrative or eclectic", "eclectic"),
    ("counselling", "counselling or supportive therapy", "counseling", "supportive"),
    ("DBT", "dialectical behaviour therapy"),
    ("ACT", "acceptance and commitment therapy"),
    ("motivational", "motivational interviewing or enhancement", "MI", "MET"),
    ("other", "anything else, or several together; write it into note", "mixed"),
)  # fmt: skip
SETTINGS = vocabulary(
    "setting",
    ("outpatient", "visits to a clinic or practice", "outpatients", "ambulatory", "clinic", "private practice"),
    ("inpatient", "a hospital stay", "inpatients", "hospital", "ward"),
    ("day_hospital", "days in hospital, nights at home", "day clinic", "partial hospitalisation", "day treatment"),
    ("community", "a community service or school", "school", "primary care", "community mental health"),
    ("residential", "living in a facility that is no hospital", "residence", "therapeutic community"),
    ("internet", "on the internet, mostly in writing", "online", "web", "ICBT", "e-mail"),
    ("telephone", "by telephone", "phone"),
    ("video", "by video call", "videoconferencing", "video conference", "telehealth", "zoom"),
)
FORMATS = vocabulary(
    "format",
    ("individual", "one client", "single"),
    ("group", "a group of clients"),
    ("couple", "a couple", "couples"),
    ("family", "a family", "families"),
    ("internet-guided", "a programme on the internet with a therapist's guidance", "guided internet", "ICBT", "guided"),
    ("app", "a programme on a mobile telephone", "mobile app", "smartphone"),
    ("chat", "written talk with a therapist in real time", "text chat", "messaging"),
    ("blended", "visits and a programme on the internet together", "blended care"),
    ("self-guided", "a programme without a therapist", "unguided", "self-help"),
)
POPULATIONS = vocabulary(
    "population",
    ("adults", "18 years and older", "adult"),
    ("older adults", "60 years and older", "elderly", "geriatric", "older adult"),
    ("adolescents", "about 12 to 18 years", "adolescent", "teenagers"),
    ("children", "below about 12 years", "child"),
    ("children and adolescents", "both, not separable", "youth", "child/adolescent", "young people"),
    ("couples", "couples", "couple"),
    ("families", "families", "family"),
    _MIXED,
)
DIAGNOSES = vocabulary(
    "diagnosis",
    ("depression", "depressive disorders", "MDD", "major depression", "depressed"),
    ("anxiety", "anxiety disorders, without PTSD and OCD", "GAD", "panic", "social anxiety", "phobia"),
    ("PTSD", "post-traumatic stress disorder", "trauma", "posttraumatic stress disorder"),
    ("OCD", "obsessive-compulsive disorder"),
    ("SUD", "substance use disorders", "substance use", "substance abuse", "alcohol", "addiction", "drug abuse"),
    ("eating", "eating disorders", "eating disorder", "anorexia", "bulimia", "ED"),
    ("psychosis", "schizophrenia and other psychoses", "schizophrenia", "psychotic"),
    ("bipolar", "bipolar disorders", "mania"),
    ("personality", "personality disorders", "BPD", "borderline", "personality disorder"),
    ("dissociative", "dissociative disorders", "DID", "dissociation"),
    ("somatic", "somatic symptoms, pain or a bodily illness", "pain", "somatoform", "medical"),
    ("conduct", "conduct problems, delinquency, ADHD", "externalizing", "behaviour problems", "delinquency"),
    ("relationship", "distress in a couple or family", "couple distress", "marital distress"),
    ("none", "no diagnosis", "non-clinical", "healthy", "students"),
    ("mixed", "several of these, not separable", "various", "heterogeneous", "transdiagnostic"),
    ("other", "anything else; write it into note"),
)
OUTCOME_TYPES = vocabulary(
    "outcome_type",
    ("symptom", "symptoms", "symptomatology", "distress", "depression", "anxiety"),
    ("functioning", "functioning, interpersonal problems or quality of life", "function", "quality of life", "GAF"),
    ("dropout", "leaving therapy early", "attrition", "retention", "premature termination"),
    ("adherence", "keeping to the treatment", "compliance", "homework"),
    ("medication adherence", "taking medicines as prescribed", "medication compliance"),
    ("well-being", "well-being, hope or satisfaction with life", "life satisfaction"),
    ("engagement", "taking part in therapy", "attendance", "participation"),
    ("relapse", "relapse or recurrence", "recurrence"),
)
DESIGNS = vocabulary(
    "design",
    ("RCT", "randomised controlled trial", "randomised", "randomized", "trial", "randomized controlled trial"),
    ("naturalistic", "routine care without randomisation", "observational", "cohort", "routine care", "non-RCT"),
)
R_TYPES = vocabulary(
    "r_type",
    ("zero-order", "plain correlation of alliance and outcome", "bivariate", "pearson", "simple"),
    ("partial", "partial correlation, e.g. with the pre-treatment score held constant", "controlled", "adjusted"),
    ("semi-partial", "semi-partial (part) correlation", "part", "sr"),
    ("beta-converted", "made from a standardised regression coefficient", "beta", "regression", "standardized beta"),
    ("within-patient", "from session to session within patients", "within", "within person", "lagged"),
)
CALCULATIONS = vocabulary(
    "es_calc",
    ("reported", "r as the paper prints it", "r", "printed", "given"),
    ("from_t", "from a t-test", "t"),
    ("from_F", "from an F-test with one numerator degree of freedom", "F", "anova"),
    ("from_chi2", "from a chi-squared test with one degree of freedom", "chi2", "chi square", "chisq"),
    ("from_p", "from a p-value, n and the direction", "p"),
    ("from_d", "from a standardised mean difference d or g", "d", "g", "from_g", "SMD"),
    ("from_OR", "from an odds ratio", "OR", "odds ratio"),
    ("from_eta2", "from eta squared", "eta2", "eta squared"),
    ("from_biserial", "from a point-biserial correlation", "biserial", "point-biserial"),
    ("from_rho", "from Spearman's rank correlation", "rho", "spearman"),
    ("from_tau", "from Kendall's tau", "tau", "kendall"),
    ("from_beta", "from a standardised regression coefficient", "beta"),
    ("from_partial", "a partial or semi-partial r from t and the model's degrees of freedom", "partial"),
    ("from_slope", "from a regression slope and its standard error", "slope", "b", "unstandardized b"),
    ("from_groups", "from means and SDs of groups", "means", "extreme groups", "M and SD"),
    ("imputed_ns", "only 'not significant' was printed and a value put in", "ns", "imputed", "zero imputed"),
    ("author", "from the study's authors", "authors", "personal communication"),
    ("other", "in another way; write it into note"),
)
STATISTICS = vocabulary(
    "es_type",
    ("r", "a correlation", "pearson", "cor", "correlation", "reported"),
    ("t", "Student's t", "t-test"),
    ("f", "F with one numerator degree of freedom", "anova"),
    ("p", "a p-value"),
    ("chi2", "chi-squared with one degree of freedom", "chisq", "chi square", "chi squared"),
    ("eta2", "eta squared", "etasq", "eta squared"),
    ("spearman", "Spearman's rank correlation", "rho", "spearman rho"),
    ("kendall", "Kendall's tau", "tau", "kendall tau"),
    ("beta", "a standardised regression coefficient", "std beta"),
    ("partial", "a partial correlation", "partial r"),
    ("partial_t", "t of a coefficient in a multiple regression, as a partial r"),
    ("semipartial_t", "t of a coefficient in a multiple regression, as a semi-partial r"),
    ("slope", "an unstandardised regression slope with its standard error", "b"),
    ("ns", "only that the result was not significant", "n.s."),
    ("d", "Cohen's d of two groups", "cohen d", "cohens d"),
    ("g", "Hedges' g of two groups", "smd", "hedges g"),
    ("means", "means and standard deviations of two groups"),
    ("d_split", "d of two groups made by splitting a continuous measure"),
    ("g_split", "g of two groups made by splitting a continuous measure"),
    ("r_pb", "a point-biserial correlation of a split measure", "point-biserial"),
    ("d_extreme", "d of the two extreme groups of a continuous measure"),
    ("means_extreme", "means and standard deviations of two extreme groups"),
    ("or", "an odds ratio, logistic conversion", "odds ratio"),
    ("or_probit", "an odds ratio, probit conversion"),
    ("or_sd", "an odds ratio for one standard deviation of a continuous measure"),
)
DIRECTIONS = vocabulary(
    "direction",
    ("as_printed", "r has the sign the paper prints, and positive means a better outcome already", "no", "unchanged"),
    ("reversed", "the sign was turned, so that positive means a better outcome", "yes", "flipped", "recoded"),
)
TARGETS = vocabulary(
    "target",
    ("client-therapist", "one client and the therapist", "patient-therapist"),
    ("member-member", "a group member and the other members", "member-group"),
    ("member-leader", "a group member and the leader"),
    ("supervisor", "a therapist and the supervisor", "supervisee-supervisor", "supervisory"),
)
LEVELS = vocabulary(
    "level",
    ("patient", "patients compared within one therapist", "within therapists", "within-therapist"),
    ("therapist", "therapists compared with one another", "between therapists", "between-therapist"),
    ("total", "both together, as most papers report it"),
)
REFERRALS = vocabulary(
    "referral",
    ("clinical", "came by themselves or were sent by a service", "self-referred", "referred"),
    ("recruited", "were recruited for the study", "advertisement"),
    ("mandated", "had to come", "court", "involuntary", "court-ordered"),
)
ALLEGIANCES = vocabulary(
    "allegiance",
    ("alliance", "the authors work on the alliance and expect it to matter"),
    ("treatment", "the authors hold another factor, mostly the treatment, to matter"),
    ("none", "neither, or balanced", "balanced", "mixed"),
)
ROB_LEVELS = vocabulary(
    "rob",
    ("low", "low risk of bias", "green", "+"),
    ("some concerns", "some concerns", "moderate", "medium", "yellow"),
    ("high", "high risk of bias", "serious", "red", "critical"),
    ("unclear", "not enough information", "no information", "?"),
)

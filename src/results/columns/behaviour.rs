//! Descriptions of the columns of `preferences` and `scenario`.

use super::Described;

const STRENGTH: (&str, &str) =
    ("strength", "the strength, in mean residual norms at the layer; 0 is no steering");
const STEERED: (&str, &str) = ("steered", "whose vector was added: an emotion, or `random-<n>`");
const CELL: (&str, &str) = ("steered", "whose vector was added: an emotion, `random-<n>`, or `unsteered`");
const CATEGORY: (&str, &str) = ("category", "the activity's category");
const ACTIVITY: (&str, &str) = ("activity", "the activity");
const CASE: (&str, &str) = ("case", "the case, numbered where values multiply it");
const CONTROL: (&str, &str) = ("control", "whether it is a control");

pub const TABLES: &[Described] = &[
    Described {
        name: "preferences",
        file: "tables/<analysis> of `preferences`",
        about: "Whether an emotion's reading of activities predicts preferences among them.",
        columns: &[
            ("n_activities", "activities"),
            ("r", "correlation over activities of reading and Elo rating"),
            ("p", "two-sided, ratings shuffled over activities"),
            ("p_max", "the same, compared with the largest |r| of any emotion in each shuffle"),
            ("r_within", "correlation of the differences from the categories' means"),
            ("p_within", "two-sided, ratings shuffled within categories"),
            ("p_within_max", "the same, compared with the largest of any emotion in each shuffle"),
            ("r_between", "the 97.5 % quantile of |r| over shuffles within categories"),
            (
                "low",
                "lower end of the 95 % interval of r, from resampled categories; empty with fewer than five",
            ),
            ("high", "upper end"),
            (
                "r_beyond",
                "partial correlation controlling for the reading along the vectors' first principal component; with \
                 three emotions or more",
            ),
            (
                "p_beyond",
                "what is left of ratings shuffled over activities, beside the largest of any emotion in each shuffle",
            ),
        ],
    },
    Described {
        name: "preferences_activities",
        file: "tables/<analysis>.preferences_activities",
        about: "The model's preferences among activities.",
        columns: &[
            CATEGORY,
            ACTIVITY,
            ("elo", "Elo rating; the mean of all is 1500, and 400 points are odds of 10"),
            (
                "position_bias",
                "position bias over all pairs: the preference for the first option, from -1 to 1",
            ),
            ("mass", "of all questions: mean probability of both letters together"),
            ("low_mass", "of all questions: the share in which that is below .1"),
        ],
    },
    Described {
        name: "preferences_pairs",
        file: "tables/<analysis>.preferences_pairs",
        about: "Each question: two activities in one order.",
        columns: &[
            ("activity_a", "the activity that stands first"),
            ("activity_b", "the other"),
            ("logit", "logit of A minus that of B, without steering"),
            ("mass", "probability of both letters together"),
        ],
    },
    Described {
        name: "preferences_readings",
        file: "tables/<analysis>.preferences_readings",
        about: "Readings of emotion vectors on an activity's own tokens.",
        columns: &[
            CATEGORY,
            ACTIVITY,
            ("reading", "the mean residual stream over the activity's tokens, times the vector of unit norm"),
        ],
    },
    Described {
        name: "preferences_steered",
        file: "tables/<analysis>.preferences_steered",
        about: "Effect on preferences of adding a vector to the tokens of half of the activities.",
        columns: &[
            STEERED,
            ("split", "the split into halves, from 1"),
            ("half", "which half is steered, 1 or 2"),
            STRENGTH,
            ("shift", "rise of the steered half over the other, in Elo points"),
            ("slope", "slope of steered on unsteered ratings within halves; below 1 they are compressed"),
        ],
    },
    Described {
        name: "preferences_elo",
        file: "tables/<analysis>.preferences_elo",
        about: "Ratings of activities with steering, averaged over splits.",
        columns: &[
            STEERED,
            CATEGORY,
            ACTIVITY,
            STRENGTH,
            ("elo", "from the same pairs without steering"),
            ("steered_elo", "with it"),
        ],
    },
    Described {
        name: "scenario",
        file: "tables/<analysis> of `scenario`",
        about: "Effect of each emotion at each strength on the act.",
        columns: &[
            STEERED,
            STRENGTH,
            ("unsteered", "the act without steering: its mean log-odds (`choices`), or its share of texts"),
            ("value", "the same in this cell"),
            ("effect", "value minus unsteered"),
            ("low", "lower end of the effect's 95 % interval"),
            ("high", "upper end"),
            ("method", "how the interval is computed"),
            ("control_effect", "the effect in the controls; none without controls"),
            ("n", "cases (`choices`) or texts of the cell, controls not counted"),
            ("aside", "mean probability of all letters together (`choices`), or share of texts cut off"),
            ("random_low", "the least effect of a random direction of this strength"),
            ("random_high", "the largest"),
            ("n_random", "random directions"),
            ("p", "rank of the effect's size among them"),
            ("q", "p after Benjamini-Hochberg over the cells"),
        ],
    },
    Described {
        name: "scenario_choices",
        file: "tables/<analysis>.scenario_choices",
        about: "The model's choices in each case and cell, averaged over the orders of the options.",
        columns: &[
            CELL,
            STRENGTH,
            CASE,
            CONTROL,
            ("logodds", "ln of the probability of the letters of the act over that of the others"),
            ("mass", "probability of all letters together"),
        ],
    },
    Described {
        name: "scenario_outcomes",
        file: "tables/<analysis>.scenario_outcomes",
        about: "The frequency of each outcome in each cell.",
        columns: &[
            CELL,
            STRENGTH,
            CONTROL,
            ("outcome", "the outcome; `cut off` and `unclear` are outcomes of their own"),
            ("act", "whether it is the act"),
            ("count", "texts of this outcome"),
            ("n", "texts of the cell"),
        ],
    },
    Described {
        name: "scenario_accuracy",
        file: "tables/<analysis>.scenario_accuracy",
        about: "Accuracy of the classification of outcomes in each arm, against manual labels; without controls.",
        columns: &[
            (
                "arm",
                "whose vector was added: an emotion, `random` (all of a strength together), `unsteered`, or `all` (all arms together)",
            ),
            STRENGTH,
            ("n_act", "labelled texts that are the act"),
            ("n_other", "labelled texts that are not"),
            ("sensitivity", "sensitivity: share of those with the act that are classified so"),
            ("sensitivity_low", "lower end of its 95 % interval (Clopper and Pearson)"),
            ("sensitivity_high", "upper end"),
            ("specificity", "specificity: share of those without the act that are classified so"),
            ("specificity_low", "lower end of its 95 % interval (Clopper and Pearson)"),
            ("specificity_high", "upper end"),
            ("n", "all texts of the arm"),
            ("told", "share of those that is classified as the act"),
            (
                "corrected",
                "the same corrected by the arm's sensitivity and specificity (Rogan and Gladen); empty if the \
                 classification is no better than chance",
            ),
            ("low", "lower end of its 95 % interval (Lang and Reiczigel)"),
            ("high", "upper end"),
            (
                "pooled",
                "the observed share, corrected by the sensitivity and specificity of all arms together",
            ),
            ("pooled_low", "lower end of its 95 % interval"),
            ("pooled_high", "upper end"),
            (
                "p_differs",
                "p-value for equal accuracies in all arms, with labelled texts shuffled over arms; the same in all rows",
            ),
        ],
    },
    Described {
        name: "scenario_probe",
        file: "tables/<analysis>.scenario_probe",
        about: "Whether emotions' readings in unsteered texts predict the texts' outcomes; without controls and \
             unclear or truncated texts.",
        columns: &[
            ("emotion", "whose vector reads"),
            (
                "place",
                "where: the mean over the user's last turn, the token before the answer, or the mean over the answer",
            ),
            (
                "compared",
                "pairs of texts of the same case, or of different ones, which then have the mean of their case",
            ),
            (
                "auc",
                "area under the ROC curve: the share of pairs in which the text with the act has the larger reading",
            ),
            ("low", "lower end of its 95 % interval, from drawing texts within cases, or cases"),
            ("high", "upper end"),
            ("n", "texts"),
            ("n_act", "of those that are the act"),
            ("p", "two-sided, with outcomes permuted within cases, or mean readings over cases"),
            ("q", "p after Benjamini-Hochberg over the table"),
            ("random_low", "the smallest area of a random direction with the covariance of the activations"),
            ("random_high", "the largest"),
            ("p_random", "rank of the area's distance from .5 among them"),
        ],
    },
    Described {
        name: "scenario_tokens",
        file: "tables/<analysis>.scenario_tokens",
        about: "Texts token by token: the first of each outcome in each cell that was read.",
        columns: &[
            ("sample_id", "which text: see `scenario_samples`"),
            ("turn", "the turn, from 0: the last of the user's, and the answers"),
            ("role", "who speaks"),
            ("token", "the token's place in the conversation"),
            ("piece", "the token as text"),
            ("emotion", "whose vector reads"),
            (
                "z",
                "the residual stream without steering times the vector of unit norm, as a z-score over the answers of the unsteered texts",
            ),
        ],
    },
    Described {
        name: "scenario_samples",
        file: "tables/<analysis>.scenario_samples",
        about: "Every generated text.",
        columns: &[
            ("sample_id", "identifies the text in a file of labels"),
            CELL,
            STRENGTH,
            CASE,
            CONTROL,
            (
                "sample",
                "which of the texts of a case in a cell, from 1; the same number has the same seed in all cells",
            ),
            ("seed", "of the first answer that is the model's own"),
            ("outcome", "its outcome"),
            ("act", "whether that is the act"),
            ("evidence", "the evidence: the part of the text that determined the outcome; may be empty"),
            ("ended", "`end`: by itself; `length`: no more tokens were allowed"),
            ("n_tokens", "tokens of all the model's answers"),
            ("text", "the last answer"),
            ("earlier", "the model's own answers before that"),
        ],
    },
];

//! What the columns of the tables in `results/` mean, with their units: docs/results.md is printed from this, and a table
//! with a column that is not described is not written by a test.

mod behaviour;
mod readings;

use std::fmt::Write;

use crate::store::table::Table;

/// A kind of table.
pub struct Described {
    /// The schema's name, without its version.
    pub name: &'static str,
    /// The files that hold it, each as `.parquet` and `.csv`.
    pub file: &'static str,
    pub about: &'static str,
    pub columns: &'static [(&'static str, &'static str)],
}

/// Columns that mean the same in every table.
const EVERYWHERE: [(&str, &str); 10] = [
    ("model", "the model, as the experiment file names it"),
    ("stories", "the source of the stories that it read"),
    ("variant", "the settings of a sweep (`from_token=50`); empty without a sweep"),
    ("layer", "the block whose `resid_post` it is, from 0; -1 is `embed`, what goes into block 0"),
    ("depth", "(layer + 1) / number of layers; 0 is `embed`"),
    ("model_a", "the model of the first set of vectors"),
    ("stories_a", "the source of the first set"),
    ("model_b", "the model of the second set"),
    ("stories_b", "the source of the second set"),
    ("emotion", "the emotion, as the experiment file names it"),
];

/// Of two layers that are compared.
const LAYERS: [(&str, &str); 2] =
    [("layer_a", "the layer of the first set"), ("layer_b", "the layer of the second set")];

/// Every kind of table in `results/`.
pub const TABLES: &[Described] = &[
    Described {
        name: "stories",
        file: "stories/<source>, stories/<source>@<model>",
        about: "The texts of a source; of neutral text too.",
        columns: &[
            ("story_id", "names the text in its source"),
            ("emotion", "empty for neutral text"),
            ("topic", "the topic, or the column of a file that stands for it; empty where there is none"),
            ("index", "which of the texts of one emotion and topic it is"),
            ("text", "the text"),
            ("writer", "the model or server that wrote it; empty for templates and files"),
            ("prompt", "what the writer was asked"),
            ("seed", "the seed of its sampling"),
            ("rejected", "replies that were rejected before it"),
        ],
    },
    Described {
        name: "rejected",
        file: "stories/<source>.rejected",
        about: "Replies that were not taken as stories.",
        columns: &[
            ("topic", "the topic that it was asked about"),
            ("index", "which of the texts of one emotion and topic it was asked for"),
            ("attempt", "which attempt it was, from 0"),
            ("reason", "why it was rejected"),
            ("text", "the reply"),
            ("seed", "the seed of its sampling"),
        ],
    },
    Described {
        name: "vectors",
        file: "vectors/<model>/<source>",
        about: "Emotion vectors (docs/methods.md has how they are computed).",
        columns: &[
            ("n_stories", "stories of the emotion that were pooled"),
            (
                "vector",
                "`d_model` numbers: the vector, with neutral components projected out where that is asked for",
            ),
            ("raw", "the same before that"),
            (
                "resid_norm",
                "mean norm of the residuals of the stories' pooled tokens at the layer: what strengths in `resid_norm` count",
            ),
            (
                "rest_norm",
                "the same without the four dimensions in which each story's pooled residual is largest",
            ),
            ("pooled_norm", "mean norm of the stories' pooled residuals, which is smaller"),
        ],
    },
    Described {
        name: "claims",
        file: "tables/claims",
        about: "What the analyses found, a row for each claim, set of vectors and layer; every row of the report's first page is in it.",
        columns: &[
            ("other", "the other set of a claim on two; empty of a claim on one"),
            (
                "reported",
                "whether the layer is the one on the first page: the kept layer nearest to two thirds of the depth",
            ),
            ("analysis", "the analysis, as the experiment file names it"),
            ("claim", "what is claimed; `[criteria]` name it as `<analysis>/<claim>`"),
            ("unit", "the unit of the estimate and its interval; empty for pure numbers"),
            ("estimate", "the estimate"),
            ("low", "lower end of the 95 % interval; none where no interval is known"),
            ("high", "upper end"),
            ("interval", "how the interval is computed"),
            ("null", "what the null is; empty where the claim is not tested"),
            ("null_draws", "draws of the null; none of an exact one"),
            ("null_mean", "mean estimate under the null"),
            ("p", "chance of an estimate at least as extreme under the null"),
            ("q", "p after Benjamini-Hochberg over the tests of a set at a layer"),
            ("q_layers", "p after Benjamini-Hochberg over the layers of a claim"),
            ("published", "values that were published of it, with `; ` between several"),
            ("published_source", "where"),
            ("published_unlike", "what is not alike there; empty where it is like with like"),
        ],
    },
    Described {
        name: "comparison",
        file: "tables/comparison",
        about: "Every set of vectors at its model's default layer, beside published values.",
        columns: &[
            ("other", "the other set of a claim on two; empty of a claim on one"),
            ("layer", "the layer; none of published values"),
            ("n_layers", "blocks of the model"),
            ("n_params", "parameters of the model"),
            ("analysis", "the analysis"),
            ("name", "the claim"),
            ("value", "its estimate"),
            ("low", "lower end of the 95 % interval"),
            ("high", "upper end"),
            ("p", "p-value where it is tested"),
            ("published", "whether the value was published by others"),
        ],
    },
    Described {
        name: "pca",
        file: "tables/<analysis> of `pca`",
        about: "Scores of the emotions on the principal components of the vectors.",
        columns: &[
            ("component", "the component, from 1"),
            ("score", "projection of the centred vector, in units of the residual stream"),
        ],
    },
    Described {
        name: "pca_variance",
        file: "tables/<analysis>.pca_variance",
        about: "What each component explains.",
        columns: &[
            ("component", "the component, from 1"),
            ("explained_variance_ratio", "its share of the variance among the vectors, 0 to 1"),
        ],
    },
    Described {
        name: "pca_checks",
        file: "tables/<analysis>.pca_checks",
        about: "Whether a component is something else than emotion.",
        columns: &[("check", "what is checked: `|r(PC1, norm)|`"), ("value", "its value")],
    },
    Described {
        name: "cosine",
        file: "tables/<analysis> of `cosine`",
        about: "Cosines of every two vectors.",
        columns: &[
            ("emotion_a", "the first emotion"),
            ("emotion_b", "the second emotion"),
            ("cosine", "the cosine of their vectors"),
        ],
    },
    Described {
        name: "logit_lens",
        file: "tables/<analysis> of `logit_lens`",
        about: "The tokens that a vector raises and lowers most through the unembedding.",
        columns: &[
            ("side", "`top` or `bottom`"),
            ("rank", "from 1"),
            ("token_id", "the token's id"),
            ("token", "the token's text"),
            ("value", "its logit from the vector alone, at the vector's own length"),
        ],
    },
    Described {
        name: "own_word",
        file: "tables/<analysis>.own_word",
        about: "Where the emotion's own word stands in the logit lens.",
        columns: &[
            ("token_id", "the first token of the word"),
            ("token", "its text"),
            ("n_tokens", "tokens of the whole word"),
            ("rank", "its rank among all tokens, from 1"),
            ("value", "its logit"),
        ],
    },
    Described {
        name: "steering",
        file: "tables/<analysis> of `steering`",
        about: "What adding a vector does to the probability of an emotion's word.",
        columns: &[
            ("unit", "in what strengths are counted"),
            ("prompt", "the text whose continuation is measured"),
            ("strength", "how much was added, in `unit`"),
            ("steered", "the emotion whose vector was added, or the name of a random direction"),
            ("measured", "the emotion whose word is measured"),
            ("baseline_logprob", "log-probability of the word without steering, nats"),
            ("steered_logprob", "with it, nats"),
            ("delta", "the difference, nats"),
        ],
    },
    Described {
        name: "steering_interval",
        file: "tables/<analysis>.steering_interval",
        about: "Intervals of an emotion's effect on its own word, over resampled topics.",
        columns: &[
            ("unit", "in what strengths are counted"),
            ("strength", "the strength"),
            ("topics", "topics that were resampled"),
            ("resamples", "draws"),
            ("low", "lower end of the 95 % interval, nats"),
            ("high", "upper end, nats"),
        ],
    },
    Described {
        name: "steering_coherence",
        file: "tables/<analysis>.steering_coherence",
        about: "What steering does to the probability of a plain text: where it falls, the strength breaks the model.",
        columns: &[
            ("unit", "in what strengths are counted"),
            ("strength", "the strength"),
            ("steered", "the direction that was added"),
            ("n_tokens", "tokens of the text"),
            ("baseline_logprob", "mean log-probability a token without steering, nats"),
            ("steered_logprob", "with it, nats"),
            ("delta", "the difference, nats"),
        ],
    },
    Described {
        name: "geometry",
        file: "tables/<analysis> of `geometry`",
        about: "Numbers about the set of vectors as a whole, with intervals and nulls.",
        columns: &[
            ("statistic", "which number"),
            ("value", "its value"),
            ("low", "lower end of the 95 % interval"),
            ("high", "upper end"),
            ("p", "share of shuffles with a value at least as large"),
            ("null_mean", "mean under shuffled labels"),
            ("null_low", "2.5th percentile under shuffled labels"),
            ("null_high", "97.5th percentile"),
            ("groups", "what is resampled: `topic`, or what stands for it"),
        ],
    },
    Described {
        name: "geometry_cosines",
        file: "tables/<analysis>.geometry_cosines",
        about: "Intervals of the cosine of every two vectors.",
        columns: &[
            ("emotion_a", "the first emotion"),
            ("emotion_b", "the second emotion"),
            ("cosine", "the cosine of their vectors"),
            ("low", "lower end of the 95 % interval"),
            ("high", "upper end"),
        ],
    },
    Described {
        name: "geometry_reliability",
        file: "tables/<analysis>.geometry_reliability",
        about: "How alike the vectors of two halves of the stories are.",
        columns: &[
            ("n_stories", "stories of the emotion"),
            ("half", "mean cosine of the vectors of two halves"),
            ("low", "2.5th percentile over the halves"),
            ("high", "97.5th percentile"),
            ("reliability", "of all stories together, by Spearman and Brown's formula"),
        ],
    },
    Described {
        name: "probe",
        file: "tables/<analysis> of `probe`",
        about: "How often the emotion of a held-out story is told from its activations.",
        columns: &[
            ("stories_read", "stories that were classified"),
            ("folds", "folds; a topic is whole in one"),
            ("groups", "what is kept whole and resampled"),
            ("accuracy", "share of stories told rightly, 0 to 1"),
            ("low", "lower end of the 95 % interval"),
            ("high", "upper end"),
            ("chance", "share of the most frequent emotion"),
            ("p", "share of shuffles that are told at least as well"),
            ("null_mean", "mean accuracy under shuffled labels"),
            ("null_low", "2.5th percentile"),
            ("null_high", "97.5th percentile"),
        ],
    },
    Described {
        name: "probe_recall",
        file: "tables/<analysis>.probe_recall",
        about: "The same for each emotion.",
        columns: &[
            ("n_stories", "stories of the emotion"),
            ("recall", "share of them told rightly, 0 to 1"),
            ("low", "lower end of the 95 % interval"),
            ("high", "upper end"),
        ],
    },
    Described {
        name: "probe_confusion",
        file: "tables/<analysis>.probe_confusion",
        about: "As what the stories of an emotion are told.",
        columns: &[
            ("told_as", "the emotion that the probe says"),
            ("share", "share of the emotion's stories, 0 to 1"),
        ],
    },
    Described {
        name: "norms",
        file: "tables/<analysis> of `norms`",
        about: "Correlation of principal components with people's ratings of the emotion words.",
        columns: &[
            ("component", "the component, or the direction of a fit"),
            ("rating", "`valence`, `arousal` or `dominance`"),
            ("n_emotions", "emotions that are rated"),
            ("pearson", "Pearson's r"),
            ("low", "lower end of the 95 % interval, by bootstrap"),
            ("high", "upper end"),
            ("fisher_low", "lower end by Fisher's transformation"),
            ("fisher_high", "upper end"),
            ("spearman", "Spearman's rho"),
            ("p", "share of permutations of the ratings with at least such an |r|"),
            ("ratings", "where the ratings are from"),
        ],
    },
    Described {
        name: "norms_plane",
        file: "tables/<analysis>.norms_plane",
        about: "How well the first two components, turned, give valence and arousal together.",
        columns: &[
            ("n_emotions", "emotions that are rated"),
            ("r2", "share of the ratings' variance that the turned plane explains, 0 to 1"),
            ("p", "share of permutations with at least such an R²"),
            ("null_mean", "mean R² under permutation"),
            ("null_high", "97.5th percentile"),
        ],
    },
    Described {
        name: "norms_words",
        file: "tables/<analysis>.norms_words",
        about: "The word that stands for each emotion in the ratings, and its place in the turned plane.",
        columns: &[
            ("word", "the rated word"),
            ("exact", "whether it is the emotion's own word, and not one of the same stem"),
            ("valence", "its rating, on the scale of the ratings"),
            ("arousal", "its rating"),
            ("dominance", "its rating"),
            ("turned_valence", "the emotion's place in the turned plane"),
            ("turned_arousal", "its place"),
        ],
    },
    Described {
        name: "implicit",
        file: "tables/<analysis> of `implicit`",
        about: "Situations that imply an emotion without its word, read with every vector.",
        columns: &[
            ("situation", "which situation, from 0"),
            ("implied", "the emotion that it implies"),
            ("cosine", "cosine of the activation with the emotion's vector"),
            ("centred", "the same minus the vector's mean over the situations"),
        ],
    },
    Described {
        name: "intensity",
        file: "tables/<analysis> of `intensity`",
        about: "Texts in which a number grows, read with every vector.",
        columns: &[
            ("template", "the template"),
            ("phrasing", "which of its phrasings, from 1"),
            ("number", "the number in the text"),
            ("cosine", "cosine of the activation with the emotion's vector"),
        ],
    },
    Described {
        name: "intensity_trend",
        file: "tables/<analysis>.intensity_trend",
        about: "Whether the reading follows the number.",
        columns: &[
            ("template", "the template"),
            ("expected", "1: should rise; -1: should fall"),
            ("spearman", "mean rank correlation of number and cosine over the phrasings"),
            ("least", "the smallest of a phrasing"),
            ("most", "the largest"),
            ("p_order", "against shuffled orders of the numbers"),
            ("p_direction", "against random directions of the vectors' covariance"),
            ("control", "the same correlation in a template whose number means nothing"),
            ("p_label", "against vectors of shuffled labels"),
        ],
    },
    Described {
        name: "rsa",
        file: "tables/<analysis> of `rsa`",
        about: "Whether two sets of vectors have the same cosines between emotions.",
        columns: &[
            ("r", "Spearman's rho of the cosines, halves of the stories crossed"),
            ("low", "lower end of the 95 % interval"),
            ("high", "upper end"),
            ("p", "the larger of the two p-values"),
            ("p_names", "against permuted names of the emotions"),
            ("p_cells", "against permuted cells of the stories"),
            ("r_same", "rho over the same stories in both sets, which shares their noise"),
            ("ceiling", "the most that the sets' own reliability lets one expect"),
            ("partial", "r with the similarity of the embeddings partialled out"),
            ("emotions", "emotions that both sets have"),
        ],
    },
    Described {
        name: "rsa_layers",
        file: "tables/<analysis>.rsa_layers",
        about: "The same for every two layers.",
        columns: &[("r", "Spearman's rho of the cosines")],
    },
    Described {
        name: "cka",
        file: "tables/<analysis> of `cka`",
        about: "Whether two models' activations of the same stories have the same geometry (linear CKA).",
        columns: &[
            ("cka", "linear CKA, 0 to 1, which is biased upwards"),
            ("cka_debiased", "the debiased estimate"),
            ("low", "lower end of its 95 % interval, by jackknife"),
            ("high", "upper end"),
            ("p", "against permuted stories"),
            ("partial", "with the embeddings partialled out"),
            ("emotions", "CKA of the emotions' means, halves of the stories crossed"),
            ("emotions_ceiling", "the most that the sets' own reliability lets one expect"),
            ("emotions_p", "the larger of two p-values, as in `rsa`"),
            ("stories", "stories that were read"),
        ],
    },
    Described {
        name: "cka_layers",
        file: "tables/<analysis>.cka_layers",
        about: "The same for every two layers.",
        columns: &[("cka", "linear CKA"), ("cka_debiased", "the debiased estimate")],
    },
    Described {
        name: "transfer",
        file: "tables/<analysis> of `transfer`",
        about: "Whether vectors of one model, through a linear map, are those of another: map, source and target from three parts of the stories.",
        columns: &[
            ("mean_rank", "mean rank of the right emotion among all by cosine, from 1"),
            ("low", "lower end of its 95 % interval"),
            ("high", "upper end"),
            ("top1", "share of emotions of rank 1, 0 to 1"),
            ("top1_low", "lower end of its 95 % interval"),
            ("top1_high", "upper end"),
            ("p", "share of permutations of the source's cells with so small a mean rank"),
            ("rank_null", "mean rank under them"),
            ("r2", "R² of the mapped activations on stories that the map has not seen"),
            ("r2_p", "share of permutations with so large an R²"),
            ("r2_null", "mean R² under them"),
            ("emotions", "emotions"),
            ("topics", "groups of topics"),
            ("folds", "rotations of the three parts"),
        ],
    },
    Described {
        name: "transfer_emotions",
        file: "tables/<analysis>.transfer_emotions",
        about: "The same for each emotion.",
        columns: &[
            ("rank", "mean rank of the right emotion, from 1"),
            ("cosine", "mean cosine of the mapped vector with the target's"),
        ],
    },
    Described {
        name: "transfer_steering",
        file: "tables/<analysis>.transfer_steering",
        about: "Steering the second model by mapped vectors of the first.",
        columns: &[
            ("prompt", "the text whose continuation is measured"),
            ("steered", "what was added: mapped vector, own vector or random direction"),
            ("baseline_logprob", "log-probability of the emotion's word without steering, nats"),
            ("steered_logprob", "with it, nats"),
            ("delta", "the difference, nats"),
        ],
    },
    Described {
        name: "scale",
        file: "tables/<analysis> of `scale`",
        about: "Claims over models of different size.",
        columns: &[
            ("n_layers", "blocks of the model"),
            ("n_params", "parameters of the model"),
            ("analysis", "the analysis"),
            ("name", "the claim"),
            ("value", "its estimate"),
        ],
    },
    Described {
        name: "scale_parameters",
        file: "tables/<analysis>.scale_parameters",
        about: "Whether a claim follows the number of parameters.",
        columns: &[
            ("analysis", "the analysis"),
            ("name", "the claim"),
            ("models", "models"),
            ("spearman", "rank correlation of the estimate with the number of parameters"),
            ("p", "exact p-value over the orders of the models"),
            ("least_p", "the least that so few models can have"),
        ],
    },
    Described {
        name: "scale_depth",
        file: "tables/<analysis>.scale_depth",
        about: "Whether a claim follows the depth within a model.",
        columns: &[
            ("analysis", "the analysis"),
            ("name", "the claim"),
            ("layers", "layers"),
            ("spearman", "rank correlation of the estimate with the depth"),
        ],
    },
];

/// Every kind of table.
fn all() -> impl Iterator<Item = &'static Described> {
    TABLES.iter().chain(behaviour::TABLES).chain(readings::TABLES)
}

/// The meaning of a column of a table of this kind.
fn meaning(described: &Described, column: &str) -> Option<&'static str> {
    let of_two = described.columns.iter().chain(&LAYERS).chain(&EVERYWHERE);
    of_two.into_iter().find(|(name, _)| *name == column).map(|(_, meaning)| *meaning)
}

/// The columns of `table` that nothing describes, or the table itself.
pub fn undescribed(table: &Table) -> Vec<String> {
    let name = table.schema.split('/').next().unwrap_or_default();
    match all().find(|described| described.name == name) {
        None => vec![format!("the table `{name}`")],
        Some(described) => {
            let unknown = table.columns.iter().filter(|(column, _)| meaning(described, column).is_none());
            unknown.map(|(column, _)| format!("`{column}` of the table `{name}`")).collect()
        }
    }
}

/// The tables as a chapter of docs/results.md.
pub fn document() -> String {
    let mut out = String::from("Columns of every table:\n\n| column | meaning |\n|---|---|\n");
    let line = |out: &mut String, (column, meaning): &(&str, &str)| {
        let _ = writeln!(out, "| `{column}` | {meaning} |");
    };
    EVERYWHERE.iter().chain(&LAYERS).for_each(|column| line(&mut out, column));
    for Described { name, file, about, columns } in all() {
        let _ = write!(out, "\n### {name}\n\n{about} In {file}.\n\n| column | meaning |\n|---|---|\n");
        columns.iter().for_each(|column| line(&mut out, column));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::table::Column;

    #[test]
    fn what_is_described_is_known_and_the_rest_is_named() {
        let column = || Column::F64(vec![0.5]);
        let table =
            |schema: &str, name: &str| Table::new(schema, vec![("layer", column()), (name, column())]);
        assert!(undescribed(&table("pca/1", "score")).is_empty());
        assert_eq!(undescribed(&table("pca/1", "scare")), ["`scare` of the table `pca`"]);
        assert_eq!(undescribed(&table("pcb/1", "score")), ["the table `pcb`"]);
    }

    #[test]
    fn every_table_and_column_is_described_once() {
        let mut names: Vec<_> = all().map(|described| described.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().count());
        for described in all() {
            let mut columns: Vec<_> = described.columns.iter().map(|(name, _)| name).collect();
            columns.sort_unstable();
            columns.dedup();
            assert_eq!(columns.len(), described.columns.len(), "{}", described.name);
        }
    }
}

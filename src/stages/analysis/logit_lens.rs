//! The tokens that an emotion vector promotes and suppresses.

mod control;

use anyhow::{Context, Result, ensure};
use tch::Tensor;

use super::made_of::{NO_TOPICS, Topics, given};
use super::{Claim, Group, Input, Inputs, Kind, Null, Places, Tables, VectorSet, distinct, groups};
use crate::lm::{LanguageModel, Layer};
use crate::params::params;
use crate::report::figure::{Body, Cell, Figure, TableFigure};
use crate::stages::stories::names_emotion;
use crate::store::table::{Column, Table};
use control::{DEALS, Ranks, TOPICS};

pub use crate::lm::LensNorm;

/// Must be increased when the same vectors would give different tables.
const VERSION: u32 = 3;

params! {
    /// The tokens that a vector promotes and suppresses most.
    pub struct LogitLens {
        /// How many on each side.
        pub top: usize = 10, 1..;
        /// `none`: `W_U v`; `gain`: `W_U (gain * v)`, for a LayerNorm of `v` less its mean and without the norm's bias; `full`: the
        /// final norm applied to `v` first.
        pub norm: LensNorm = "none";
        /// Vectors of topics (of a template: of its passages), which are no emotion's, computed from the same activations: how far they
        /// raise emotions' words. At most so many; 0: none, and no activations are read.
        pub topics: usize = 30, 0..=30;
    }
}

impl Kind for LogitLens {
    fn kind(&self) -> &'static str {
        "logit_lens"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Logit lens"
    }

    fn intro(&self) -> &'static str {
        "The tokens that each emotion vector promotes and suppresses when it is projected through the unembedding."
    }

    fn inputs(&self) -> Inputs {
        let topics = self.topics > 0;
        Inputs { model: true, activations: topics, seed: topics, ..Inputs::VECTORS }
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        figures(self, name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        claims(tables)
    }

    fn reading(&self) -> &'static str {
        READING
    }
}

/// The two sides, as spelled in the table.
pub(super) const PROMOTED: &str = "promoted";
pub(super) const SUPPRESSED: &str = "suppressed";

/// The table `logit_lens`: for each layer and emotion the `top` tokens with the largest and with the smallest values
/// of the vector under the unembedding. And `own_word`: for each layer and emotion the rank of the first token of its
/// word among all tokens of the vocabulary, the largest value first, and the number of tokens of the word. Ties go to
/// the smaller token id.
///
/// A word's tokens are those into which the tokenizer splits `" " + word` after another word. And `lens_topics`, if
/// there are topics: the ranks of the words under the topics' vectors.
fn run(params: &LogitLens, input: Input) -> Result<Tables> {
    let model = input.model()?;
    let Input { set, seed, progress, activations, .. } = input;
    let mut beside = control::Rows::default();
    let mut places = Places::default();
    let (mut emotions, mut sides, mut ranks) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ids, mut tokens, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut own = OwnWords::default();
    let total = set.layers.iter().map(|l| l.emotions.len()).sum();
    let mut done = 0;
    for layer in &set.layers {
        let words: Vec<Word> =
            layer.emotions.iter().map(|emotion| Word::of(emotion, model)).collect::<Result<_>>()?;
        let firsts: Vec<usize> = words.iter().map(|word| word.first).collect();
        let topics = match params.topics {
            0 => Topics::default(),
            most => given(activations.as_ref())?
                .remade(&layer.emotions, layer.layer.number(), seed)?
                .topics(most)?,
        };
        let mut under = Ranks::new(words.len());
        let mut words = layer.emotions.iter().zip(words);
        let chunks = layer.vectors.chunks(CHUNK * layer.d_model);
        for (names, vectors) in layer.emotions.chunks(CHUNK).zip(chunks) {
            for (emotion, logits) in names.iter().zip(lens(model, vectors, layer.d_model, params.norm)?) {
                let finite = logits.iter().all(|x| x.is_finite());
                ensure!(finite, "the logit lens of `{emotion}` at layer {} is NaN or infinite", layer.layer);
                if let Some((emotion, word)) = words.next() {
                    own.push(set, layer.layer, emotion, word, model, &logits);
                }
                under.push(&logits, &firsts);
                for (side, sign) in [(PROMOTED, 1.0), (SUPPRESSED, -1.0)] {
                    for (rank, id) in extremes(&logits, params.top, sign).into_iter().enumerate() {
                        places.push(set, layer.layer);
                        emotions.push(emotion.clone());
                        sides.push(side.to_string());
                        ranks.push(rank as i32 + 1);
                        ids.push(id as i32);
                        tokens.push(model.token(id as u32));
                        values.push(f64::from(logits[id]));
                    }
                }
            }
            done += names.len();
            progress(done, total);
        }
        for vectors in topics.vectors.chunks(CHUNK * layer.d_model) {
            for logits in lens(model, vectors, layer.d_model, params.norm)? {
                under.push(&logits, &firsts);
            }
        }
        if let Some(found) = under.ahead(seed) {
            beside.push(set, layer.layer, topics.names.len(), &found);
        }
    }
    let columns = vec![
        ("emotion", Column::Str(emotions)),
        ("side", Column::Str(sides)),
        ("rank", Column::I32(ranks)),
        ("token_id", Column::I32(ids)),
        ("token", Column::Str(tokens)),
        ("value", Column::F64(values)),
    ];
    Ok(vec![
        ("logit_lens".into(), places.table("logit_lens/1", columns)),
        (OWN_WORD.into(), own.finish()),
        (TOPICS.into(), beside.finish()),
    ])
}

const OWN_WORD: &str = "own_word";

/// An arbitrary word that precedes the emotion's word for tokenization.
const BEFORE: &str = "feels";

/// An emotion's word as tokens.
pub(super) struct Word {
    /// Its first token.
    pub(super) first: usize,
    tokens: usize,
}

impl Word {
    /// An error if the first token is not in the unembedding.
    pub(super) fn of(emotion: &str, model: &LanguageModel) -> Result<Word> {
        let (_, ids) = model
            .encode_continuation(BEFORE, emotion)
            .with_context(|| format!("the tokens of the word `{emotion}`"))?;
        let first =
            ids.first().and_then(|&id| usize::try_from(id).ok()).filter(|&id| id < model.spec.d_vocab);
        let first =
            first.with_context(|| format!("the first token of `{emotion}` is not in the unembedding"))?;
        Ok(Word { first, tokens: ids.len() })
    }
}

/// The columns of the table `own_word`.
#[derive(Default)]
struct OwnWords {
    places: Places,
    emotion: Vec<String>,
    token_id: Vec<i32>,
    token: Vec<String>,
    n_tokens: Vec<i32>,
    rank: Vec<i32>,
    value: Vec<f64>,
}

impl OwnWords {
    fn push(
        &mut self,
        set: &VectorSet,
        layer: Layer,
        emotion: &str,
        Word { first: id, tokens }: Word,
        model: &LanguageModel,
        logits: &[f32],
    ) {
        self.places.push(set, layer);
        self.emotion.push(emotion.to_string());
        self.token_id.push(id as i32);
        self.token.push(model.token(id as u32));
        self.n_tokens.push(tokens as i32);
        self.rank.push(rank(logits, id) as i32);
        self.value.push(f64::from(logits[id]));
    }

    fn finish(self) -> Table {
        let columns = vec![
            ("emotion", Column::Str(self.emotion)),
            ("token_id", Column::I32(self.token_id)),
            ("token", Column::Str(self.token)),
            ("n_tokens", Column::I32(self.n_tokens)),
            ("rank", Column::I32(self.rank)),
            ("value", Column::F64(self.value)),
        ];
        self.places.table("own_word/1", columns)
    }
}

/// The rank of `values[id]` among all values, from 1, the largest first, ties to the smaller index.
pub(super) fn rank(values: &[f32], id: usize) -> usize {
    let before = |(at, value): (usize, &f32)| *value > values[id] || (*value == values[id] && at < id);
    1 + values.iter().enumerate().filter(|&entry| before(entry)).count()
}

/// The number of vectors multiplied by the unembedding at a time: it is converted to fp32 for each such chunk.
const CHUNK: usize = 32;

/// For each vector (`vectors`: `[n, d_model]`) its `[d_vocab]` values under the unembedding, in fp32.
pub(super) fn lens(
    model: &LanguageModel,
    vectors: &[f64],
    d_model: usize,
    norm: LensNorm,
) -> Result<Vec<Vec<f32>>> {
    ensure!(d_model == model.spec.d_model, "vectors of {d_model} entries for another model");
    let vectors: Vec<f32> = vectors.iter().map(|&x| x as f32).collect();
    let logits = model.unembed_direction(&Tensor::from_slice(&vectors).view([-1, d_model as i64]), norm);
    (0..logits.size()[0]).map(|row| Ok(Vec::<f32>::try_from(logits.get(row))?)).collect()
}

/// The indices of the `top` largest `sign * values`, largest first, ties to the smaller index.
pub(super) fn extremes(values: &[f32], top: usize, sign: f32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let by_value = |a: &usize, b: &usize| (sign * values[*b]).total_cmp(&(sign * values[*a])).then(a.cmp(b));
    let top = top.min(order.len());
    if top < order.len() {
        order.select_nth_unstable_by(top, by_value);
        order.truncate(top);
    }
    order.sort_unstable_by(by_value);
    order
}

/// What the claims of this analysis mean.
const READING: &str = "The rank of the first token of an emotion's own word when the whole vocabulary is sorted by the \
     logits from the emotion's vector (1: promoted most): median over emotions, and the share of emotions with the \
     word in the top ten. Ahead of topics: the share of pairs of an emotion and a topic in which the emotion's own \
     vector ranks its word higher than the topic's vector does; vectors unrelated to emotion give 50 %.";

/// The rank of emotions' own words: the median, and the share in the top ten; and the comparison with topics.
fn claims(tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for group in groups(tables, OWN_WORD)? {
        let mut ranks: Vec<f64> = own_ranks(&group)?.into_iter().map(|(_, rank)| rank).collect();
        ranks.sort_by(f64::total_cmp);
        let n = ranks.len();
        let median = (ranks[(n - 1) / 2] + ranks[n / 2]) / 2.0;
        let share = ranks.iter().filter(|&&rank| rank <= 10.0).count() as f64 / n as f64;
        claims.push(group.claim("own word: median rank", "", median, 1));
        claims.push(group.claim("own word in the top 10", "% of emotions", 100.0 * share, 0));
    }
    for group in groups(tables, TOPICS)? {
        let row = group.rows[0];
        let null = Null {
            of: "words randomly assigned to vectors of emotions and topics",
            draws: DEALS,
            mean: Some(50.0),
            p: group.table.f64("p")?[row],
        };
        let ahead = 100.0 * group.table.f64("ahead")?[row];
        claims.push(group.claim("own word ahead of topics", "% of pairs", ahead, 0).against(Some(null)));
    }
    Ok(claims)
}

/// A table for each set and layer: one row per emotion, its tokens on both sides, and the rank of its own word.
fn figures(params: &LogitLens, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let (own, topics) = (groups(tables, OWN_WORD)?, groups(tables, TOPICS)?);
    let groups = groups(tables, "logit_lens")?;
    let figure = |group: &Group| {
        let topics = topics.iter().find(|topics| topics.place() == group.place());
        let beside = match (params.topics, topics) {
            (0, _) => String::new(),
            (_, None) => NO_TOPICS.to_string(),
            (_, Some(topics)) => beside(topics)?,
        };
        figure(name, group, own.iter().find(|own| own.place() == group.place()), &beside)
    };
    groups.iter().map(figure).collect()
}

/// The comparison with the topics' vectors, in words.
fn beside(group: &Group) -> Result<String> {
    let (row, table) = (group.rows[0], group.table);
    Ok(format!(
        "Control with vectors of topics: under the vectors of {} topics or passages the median rank of these tokens is \
         {:.0}, and in {:.0} % of the pairs of an emotion and a topic the emotion's own vector ranks its word higher \
         (p = {:.3}, words randomly assigned to the vectors of both).",
        table.i32("topics")?[row],
        table.f64("topic_rank")?[row],
        100.0 * table.f64("ahead")?[row],
        table.f64("p")?[row]
    ))
}

fn figure(name: &str, group: &Group, own: Option<&Group>, beside: &str) -> Result<Figure> {
    let (all, sides, tokens) =
        (group.table.str("emotion")?, group.table.str("side")?, group.table.str("token")?);
    let ranks = own.map_or(Ok(Vec::new()), own_ranks)?;
    let emotions = distinct(all, &group.rows);
    let mut found = 0;
    let mut rows = Vec::new();
    for emotion in &emotions {
        let of = |side: &str| -> Vec<&str> {
            let rows = group.rows.iter().filter(|&&row| all[row] == *emotion && sides[row] == side);
            rows.map(|&row| tokens[row].as_str()).collect()
        };
        let promoted = of(PROMOTED);
        let at = promoted.iter().position(|token| is_own(token, emotion));
        found += usize::from(at.is_some());
        let rank = ranks.iter().find(|(name, _)| name == emotion).map(|(_, rank)| *rank);
        rows.push(vec![
            Cell::Text(emotion.to_string()),
            Cell::Text(joined(&promoted)),
            Cell::Text(joined(&of(SUPPRESSED))),
            at.map_or(Cell::Empty, |at| Cell::Number(at as f64 + 1.0, 0)),
            rank.map_or(Cell::Empty, |rank| Cell::Number(rank, 0)),
        ]);
    }
    let columns = ["emotion", "promoted", "suppressed", "own word at", "its first token at"];
    Ok(group.figure(
        name.to_string(),
        "Promoted and suppressed tokens".into(),
        format!(
            "The tokens whose logits each emotion vector raises and lowers most through the unembedding, and the rank \
             of the first token that is the emotion's own word, a form of it, or its beginning: {found} of {} emotions \
             have one among those shown. The last column is the rank of the word's first token in the whole \
             vocabulary. {beside}",
            emotions.len()
        ),
        Body::Table(TableFigure { columns: columns.map(String::from).to_vec(), rows }),
    ))
}

/// Each emotion of a group of the table `own_word` with the rank of its word.
fn own_ranks<'a>(group: &Group<'a>) -> Result<Vec<(&'a str, f64)>> {
    let table: &'a Table = group.table;
    let (emotions, ranks) = (table.str("emotion")?, table.i32("rank")?);
    Ok(group.rows.iter().map(|&row| (emotions[row].as_str(), f64::from(ranks[row]))).collect())
}

/// Tokens joined into one cell; surrounding space, which tokenizers write in several ways, is dropped.
pub(super) fn joined(tokens: &[&str]) -> String {
    tokens.iter().map(|token| bare(token)).collect::<Vec<_>>().join(", ")
}

/// A token without the characters with which tokenizers mark a space.
pub(super) fn bare(token: &str) -> &str {
    token.trim_matches(|c: char| c.is_whitespace() || c == '\u{120}' || c == '\u{2581}')
}

/// Whether a token is the emotion's word, an inflection of it, or (three letters or more) a prefix of it.
fn is_own(token: &str, emotion: &str) -> bool {
    let token = bare(token).to_lowercase();
    names_emotion(&token, emotion)
        || (token.chars().count() >= 3 && emotion.to_lowercase().starts_with(&token))
}

#[cfg(test)]
mod tests {
    use super::super::tests::set;
    use super::*;

    #[test]
    fn extremes_are_sorted_and_ties_go_to_the_smaller_id() {
        let values = [0.5, 2.0, -1.0, 2.0, 0.0];
        assert_eq!(extremes(&values, 3, 1.0), [1, 3, 0]);
        assert_eq!(extremes(&values, 2, -1.0), [2, 4]);
        assert_eq!(extremes(&values, 9, 1.0), [1, 3, 0, 4, 2]);
        assert_eq!(extremes(&[1.0, 1.0, 1.0], 2, -1.0), [0, 1]);
    }

    #[test]
    fn ranks_agree_with_the_order_of_extremes() {
        let values = [0.5, 2.0, -1.0, 2.0, 0.0];
        assert_eq!([0, 1, 2, 3, 4].map(|id| rank(&values, id)), [3, 1, 5, 2, 4]);
    }

    #[test]
    fn claims_by_hand() {
        let check = |ranks: &[i32], median: f64, share: f64| {
            let set = set(&["a"], &[&[1.0]]);
            let mut places = Places::default();
            ranks.iter().for_each(|_| places.push(&set, Layer::Block(3)));
            let emotions = (0..ranks.len()).map(|i| i.to_string()).collect();
            let columns = vec![("emotion", Column::Str(emotions)), ("rank", Column::I32(ranks.to_vec()))];
            let tables = [(OWN_WORD.to_string(), places.table("own_word/1", columns))];
            let claims = claims(&tables).unwrap();
            assert_eq!(claims.iter().map(|c| c.estimate).collect::<Vec<_>>(), [median, share], "{ranks:?}");
        };
        check(&[11, 1, 10, 700], 10.5, 50.0);
        check(&[900, 3, 40, 7, 8], 8.0, 60.0);
        check(&[5], 5.0, 100.0);
    }

    #[test]
    fn own_words_are_found_in_any_spelling_of_a_token() {
        let check =
            |token: &str, emotion: &str, own: bool| assert_eq!(is_own(token, emotion), own, "{token}");
        check("\u{120}happ", "happy", true);
        check("\u{2581}Happiness", "happy", true);
        check(" ha", "happy", false);
        check(" happen", "happy", false);
        check("", "happy", false);
    }

    #[test]
    fn the_table_has_a_row_an_emotion() {
        let set = set(&["a"], &[&[1.0]]);
        let mut places = Places::default();
        (0..4).for_each(|_| places.push(&set, Layer::Block(3)));
        let strings = |list: [&str; 4]| Column::Str(list.map(String::from).to_vec());
        let columns = vec![
            ("emotion", strings(["sad", "sad", "sad", "calm"])),
            ("side", strings([PROMOTED, PROMOTED, SUPPRESSED, PROMOTED])),
            ("token", strings([" tears", " sad", "\u{120}joy", " sea"])),
        ];
        let mut own = Places::default();
        own.push(&set, Layer::Block(3));
        let own_columns =
            vec![("emotion", Column::Str(vec!["calm".into()])), ("rank", Column::I32(vec![77]))];
        let tables = [
            ("logit_lens".to_string(), places.table("logit_lens/1", columns)),
            (OWN_WORD.to_string(), own.table("own_word/1", own_columns)),
        ];
        let params = LogitLens { top: 2, norm: LensNorm::None, topics: 30 };
        let figures = figures(&params, "words", &tables).unwrap();
        let Body::Table(table) = &figures[0].body else { panic!() };
        let text = |t: &str| Cell::Text(t.into());
        assert_eq!(
            table.rows[0],
            [text("sad"), text("tears, sad"), text("joy"), Cell::Number(2.0, 0), Cell::Empty]
        );
        assert_eq!(table.rows[1], [text("calm"), text("sea"), text(""), Cell::Empty, Cell::Number(77.0, 0)]);
        assert!(figures[0].caption.contains("1 of 2 emotions") && figures[0].caption.contains(NO_TOPICS));
    }
}

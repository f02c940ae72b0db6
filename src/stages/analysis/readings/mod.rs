//! Texts read token by token: the projection of the residual stream on each emotion's vector, at each token and in
//! each turn.

mod figures;
mod positions;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::reads::{Moments, TextRead, running};
use super::steering::Layers;
use super::{Claim, Input, Inputs, Kind, Places, Reads, Tables, VectorSet};
use crate::lm::Layer;
use crate::params::problem::quoted;
use crate::params::{Problem, Read, Reader, Reported, Type, params};
use crate::report::figure::Figure;
use crate::stages::readings::{From, Wanted, names};
use crate::store::table::{Column, Table};
use positions::Positions;

/// Must be increased when the same readings would give different tables.
const VERSION: u32 = 3;

/// The number of random directions shown in the report along with the emotions.
const SHOWN_RANDOM: usize = 2;

params! {
    /// How far the residual stream reaches along each emotion's vector, token by token: of stories, of transcripts, of texts.
    pub struct Readings {
        /// Transcripts that are read: names of `[transcripts]` and `[dialogues]`.
        #[unset("none")]
        #[of(Type::Texts)]
        #[with(sources)]
        pub transcripts: Option<Vec<String>>;
        /// Texts of one's own that are read, as `activations.wrap` says.
        #[unset("none")]
        #[of(Type::Texts)]
        #[with(texts)]
        pub texts: Option<Vec<String>>;
        // Not in the key: what is read is, as inputs.
        /// Whether the stories from which the vectors are computed are read; if there is nothing else to read, they are in any case.
        #[serde(skip)]
        pub stories: bool = false;
        /// Which of the kept layers are read; `default`: the one nearest to 2/3 of the depth.
        pub layers: Layers = "default";
        /// Random directions with the same covariance, for comparison with the emotions.
        pub random: usize = 19, 0..=1000;
        /// Tokens whose mean is judged: single tokens are noise.
        pub window: usize = 16, 1..=4096;
        /// Texts of each source that the report shows, token by token.
        pub show: usize = 6, 0..=100;
    }
}

fn sources(reader: &Reader<'_>, name: &str) -> Read<Option<Vec<String>>> {
    let Some(written) = reader.texts(name)? else { return Ok(None) };
    let mut wrong = false;
    for (source, span) in &written {
        if !sources_of(reader).any(|known| known == source) {
            wrong = true;
            let problem = Problem::at(span.clone(), format!("there are no transcripts {}", quoted(source)));
            reader.note(problem.hint(known(reader)));
        }
    }
    if wrong { Err(Reported) } else { Ok(Some(written.into_iter().map(|(source, _)| source).collect())) }
}

/// Conversations that can be read, including dialogues, which are transcripts too.
pub(super) fn sources_of<'r>(reader: &'r Reader<'_>) -> impl Iterator<Item = &'r str> {
    reader.scope.names("transcripts").chain(reader.scope.names("dialogues"))
}

/// The available transcripts, as a hint.
pub(super) fn known(reader: &Reader<'_>) -> String {
    let names: Vec<String> = sources_of(reader).map(|name| format!("`{name}`")).collect();
    match names.is_empty() {
        true => "say where they are: `[transcripts.NAME.file]` with `path = \"logs/*.jsonl\"`".into(),
        false => format!("there are {}", names.join(", ")),
    }
}

fn texts(reader: &Reader<'_>, name: &str) -> Read<Option<Vec<String>>> {
    Ok(reader.texts(name)?.map(|texts| texts.into_iter().map(|(text, _)| text).collect()))
}

impl Kind for Readings {
    fn kind(&self) -> &'static str {
        "readings"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Readings, token by token"
    }

    fn intro(&self) -> &'static str {
        "The projection of the residual stream onto each emotion's vector at each token of a text."
    }

    fn inputs(&self) -> Inputs {
        let conversations = self.transcripts.is_some();
        Inputs { chat: conversations, seed: conversations, ..Inputs::VECTORS }
    }

    fn reads(&self) -> Option<Wanted> {
        let mut from: Vec<From> =
            self.transcripts.iter().flatten().map(|n| From::Transcripts(n.clone())).collect();
        from.extend(self.texts.clone().map(From::Written));
        if self.stories || from.is_empty() {
            from.push(From::Stories);
        }
        Some(Wanted { from, random: self.random, words: false })
    }

    fn layers(&self, kept: &[Layer], n_layers: usize) -> Vec<Layer> {
        self.layers.of(kept, n_layers)
    }

    fn run(&self, input: Input) -> Result<Tables> {
        let reads = input.reads.context("this analysis needs readings")?;
        self.run_on(input.set, &reads, input.seed)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        figures::figures(self, name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        figures::claims(tables)
    }

    fn reading(&self) -> &'static str {
        figures::READING
    }
}

/// The mean and standard deviation of each direction's reading over the tokens of a source, at a layer.
type Scales = BTreeMap<(String, usize), Vec<Moments>>;

impl Readings {
    /// The tables `readings` (one row per text, turn and direction) and `readings_tokens` (one row per token and
    /// direction, for the texts that are shown), at each layer; for conversations with answers also
    /// `readings_positions` (one row per pair of positions around the answer). z-scores are relative to the tokens of
    /// the source's own texts, without template and system turns.
    ///
    /// An error if a source has fewer than two tokens.
    fn run_on(&self, set: &VectorSet, reads: &Reads, seed: u64) -> Result<Tables> {
        let mut scales = Scales::new();
        reads.each(set, &mut |read| {
            let scale = scales
                .entry((read.source.to_string(), read.layer))
                .or_insert_with(|| vec![Moments::default(); read.width]);
            for (direction, moments) in scale.iter_mut().enumerate() {
                read.of(direction, is_own(read)).into_iter().for_each(|(_, x)| moments.add(x));
            }
            Ok(())
        })?;
        ensure!(
            scales.values().flatten().all(|m| m.n >= 2.0),
            "texts of fewer than two tokens have no deviation"
        );
        let (mut spans, mut tokens) = (Spans::default(), Tokens::default());
        let mut positions = Positions::default();
        let mut shown: BTreeMap<(String, usize), usize> = BTreeMap::new();
        reads.each(set, &mut |read| {
            let scale = &scales[&(read.source.to_string(), read.layer)];
            let names = names(&set.layers[read.layer].emotions, self.random);
            spans.add(set, read, scale, &names, self.window);
            positions.add(read, names.len() - self.random);
            let n = shown.entry((read.source.to_string(), read.layer)).or_default();
            if *n < self.show {
                *n += 1;
                tokens.add(
                    set,
                    read,
                    scale,
                    &names[..names.len() - self.random + self.random.min(SHOWN_RANDOM)],
                );
            }
            Ok(())
        })?;
        let mut tables =
            vec![("readings".to_string(), spans.table()), ("readings_tokens".to_string(), tokens.table())];
        tables.extend(positions.table(set, seed).map(|table| ("readings_positions".to_string(), table)));
        Ok(tables)
    }
}

/// Whether a turn is included in the scale: system turns are the same in many texts.
fn is_own<'a>(read: &'a TextRead) -> impl Fn(usize) -> bool + 'a {
    |turn| read.text.role(turn) != "system"
}

/// Rows of the table `readings`.
#[derive(Default)]
struct Spans {
    places: Places,
    source: Vec<String>,
    id: Vec<String>,
    place: Vec<String>,
    label: Vec<Option<String>>,
    turn: Vec<i32>,
    role: Vec<String>,
    n_tokens: Vec<i32>,
    direction: Vec<String>,
    mean: Vec<f64>,
    z: Vec<f64>,
    peak: Vec<f64>,
}

impl Spans {
    fn add(&mut self, set: &VectorSet, read: &TextRead, scale: &[Moments], names: &[String], window: usize) {
        let mut turns: Vec<usize> = read.turns.iter().flatten().copied().collect();
        turns.dedup();
        for turn in turns {
            for (direction, name) in names.iter().enumerate() {
                let values: Vec<f64> =
                    read.of(direction, |t| t == turn).into_iter().map(|(_, x)| x).collect();
                let z: Vec<f64> = values.iter().map(|&x| scale[direction].z(x)).collect();
                let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
                self.places.push(set, set.layers[read.layer].layer);
                self.source.push(read.source.to_string());
                self.id.push(read.text.id.clone());
                self.place.push(read.text.place.clone());
                self.label.push(read.text.label.clone());
                self.turn.push(turn as i32);
                self.role.push(read.text.role(turn).to_string());
                self.n_tokens.push(values.len() as i32);
                self.direction.push(name.clone());
                self.mean.push(mean(&values));
                self.z.push(mean(&z));
                self.peak.push(running(&z, window).into_iter().fold(f64::MIN, f64::max));
            }
        }
    }

    fn table(self) -> Table {
        let columns = vec![
            ("source", Column::Str(self.source)),
            ("text_id", Column::Str(self.id)),
            ("place", Column::Str(self.place)),
            ("label", Column::OptStr(self.label)),
            ("turn", Column::I32(self.turn)),
            ("role", Column::Str(self.role)),
            ("n_tokens", Column::I32(self.n_tokens)),
            ("direction", Column::Str(self.direction)),
            ("mean", Column::F64(self.mean)),
            ("z", Column::F64(self.z)),
            ("peak", Column::F64(self.peak)),
        ];
        self.places.table("readings_spans/1", columns)
    }
}

/// Rows of the table `readings_tokens`.
#[derive(Default)]
struct Tokens {
    places: Places,
    source: Vec<String>,
    id: Vec<String>,
    turn: Vec<i32>,
    token: Vec<i32>,
    piece: Vec<String>,
    direction: Vec<String>,
    reading: Vec<f64>,
    z: Vec<f64>,
}

impl Tokens {
    fn add(&mut self, set: &VectorSet, read: &TextRead, scale: &[Moments], names: &[String]) {
        for (direction, name) in names.iter().enumerate() {
            for (token, x) in read.of(direction, |_| true) {
                self.places.push(set, set.layers[read.layer].layer);
                self.source.push(read.source.to_string());
                self.id.push(read.text.id.clone());
                self.turn.push(read.turns[token].map_or(0, |turn| turn as i32));
                self.token.push(token as i32);
                self.piece.push(read.pieces[token].clone());
                self.direction.push(name.clone());
                self.reading.push(x);
                self.z.push(scale[direction].z(x));
            }
        }
    }

    fn table(self) -> Table {
        let columns = vec![
            ("source", Column::Str(self.source)),
            ("text_id", Column::Str(self.id)),
            ("turn", Column::I32(self.turn)),
            ("token", Column::I32(self.token)),
            ("piece", Column::Str(self.piece)),
            ("direction", Column::Str(self.direction)),
            ("reading", Column::F64(self.reading)),
            ("z", Column::F64(self.z)),
        ];
        self.places.table("readings_tokens/1", columns)
    }
}

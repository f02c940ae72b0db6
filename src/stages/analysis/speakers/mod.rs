//! Whose emotion a vector represents: vectors by speaker and owner, from dialogues in which both are known, compared
//! with each other and with those of stories. The formulas are in docs/methods.md.

mod figures;
mod implied;
mod measure;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result};

use super::implicit::{self, Situation};
use super::labelled::Labelled;
use super::norms::ratings::Ratings;
use super::steering::Layers;
use super::tested::Numbers;
use super::turns::{self, ReadAt};
use super::{Claim, Input, Inputs, Kind, Places, Spans, Tables, VectorSet};
use crate::lm::Layer;
use crate::params::{Type, params};
use crate::report::figure::Figure;
use crate::stages::readings::From;
use crate::stages::spans::{Span, Wanted, Wrapped};
use crate::stages::vectors;
use crate::store::table::{Column, Table};
use measure::{Common, Draw, Found, SETS, STORIES, measure};

/// Must be increased when the same dialogues would give different tables.
const VERSION: u32 = 3;

params! {
    /// Vectors by speaker and by whose emotion it is, from dialogues: see docs/methods.md.
    pub struct Speakers {
        /// The dialogues, of the kind `speakers`: one of `[dialogues]`.
        #[with(super::labelled::of_speakers)]
        #[serde(skip)]
        pub dialogues: String;
        /// Texts on which the stories' vectors and those of the present speaker's emotion are compared, each with the
        /// emotion that it implies (not used here).
        #[ships("the twelve of `implicit`", include_str!("../../../params/presets/situations-12.txt"))]
        #[of(Type::Pairs)]
        #[with(implicit::all)]
        pub situations: Vec<Situation>;
        /// Which of the kept layers are read; `default`: the one nearest to 2/3 of the depth.
        pub layers: Layers = "default";
        /// Bootstrap resamples of the topics, for the intervals.
        pub resamples: usize = 1000, 2..=100_000;
        /// Shuffles of the emotions' names, of the emotions within topics, and of who owns them, for the nulls.
        pub permutations: usize = 1000, 1..=100_000;
    }
}

impl Kind for Speakers {
    fn kind(&self) -> &'static str {
        "speakers"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Whose emotion"
    }

    fn intro(&self) -> &'static str {
        "Vectors of the user's and of the assistant's emotion, computed over the user's and over the assistant's \
         turns, from dialogues in which the two are independent: do they depend on whose emotion it is, on who speaks, \
         or on whether it is the speaker's own?"
    }

    fn inputs(&self) -> Inputs {
        Inputs { seed: true, chat: true, model: true, ..Inputs::VECTORS }
    }

    fn spans(&self) -> Option<Wanted> {
        let spans = vec![Span::User, Span::Assistant];
        Some(Wanted {
            from: From::Transcripts(self.dialogues.clone()),
            spans,
            open: false,
            wrap: Wrapped::Chat,
        })
    }

    fn layers(&self, kept: &[Layer], n_layers: usize) -> Vec<Layer> {
        self.layers.of(kept, n_layers)
    }

    fn run(&self, input: Input) -> Result<Tables> {
        let model = input.model()?;
        let Input { set, spans, chat, seed, progress, .. } = input;
        let texts: Vec<String> = self.situations.iter().map(|situation| situation.text.clone()).collect();
        let layers: Vec<Layer> = set.layers.iter().map(|layer| layer.layer).collect();
        let resids = turns::read(model, &texts, (ReadAt::User, chat), &layers, progress)?;
        self.run_on(set, &spans.context("this analysis needs dialogues")?, &resids, seed)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        figures::figures(name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        figures::claims(self, tables)
    }

    fn reading(&self) -> &'static str {
        figures::READING
    }
}

/// The name of a set in tables.
fn name(set: usize) -> String {
    const WHO: [&str; 2] = ["person", "assistant"];
    match SETS.get(set) {
        Some(&[speaker, owner]) => format!("{}'s turns, {}'s emotion", WHO[speaker], WHO[owner]),
        None => "stories".into(),
    }
}

/// What two sets have in common, as spelled in tables.
fn common(a: usize, b: usize) -> &'static str {
    if b == STORIES { "stories" } else { Common::of(a, b).name() }
}

impl Speakers {
    /// The tables `speakers` (one row per pair of sets) and `speakers_tests` (one row per claimed number), at each
    /// layer. `resids`: for each layer, the residual stream of each situation.
    fn run_on(&self, set: &VectorSet, spans: &Spans, resids: &[Vec<Vec<f64>>], seed: u64) -> Result<Tables> {
        let (mut pairs, mut tests) = (Places::default(), Places::default());
        let (mut cosines, mut tested) = (Numbers::default(), Numbers::default());
        let (mut a, mut b, mut of, mut rsa, mut p_rsa) = (vec![], vec![], vec![], vec![], vec![]);
        let (mut what, mut against) = (Vec::new(), Vec::new());
        let (mut dialogues, mut skipped, mut topics) = (Vec::new(), Vec::new(), Vec::new());
        for (here, resids) in set.layers.iter().zip(resids) {
            let read = Labelled::gather(spans, here.layer, &here.emotions, &["user", "assistant"])?;
            let neutral = (spans.neutral)(here.layer)?;
            let removed =
                vectors::removed(spans.params, neutral.as_ref(), here.layer.number(), here.d_model)?;
            let rated = Ratings::circumplex().rated(&here.emotions).into_iter();
            let arousal: Vec<(usize, f64)> =
                rated.filter_map(|rated| Some((rated.emotion, rated.ratings[1]?))).collect();
            let draw = Draw { shuffles: self.permutations, resamples: self.resamples, seed };
            let found: Found = measure(&read, &here.vectors, &removed, &arousal, &draw)
                .with_context(|| format!("dialogues at layer {}", here.layer))?;
            for pair in &found.pairs {
                pairs.push(set, here.layer);
                let (first, second) = pair.sets;
                a.push(name(first));
                b.push(name(second));
                of.push(common(first, second).to_string());
                cosines.push(&pair.cosine);
                rsa.push(pair.rsa.0);
                p_rsa.push(pair.rsa.1);
            }
            let named = found
                .common
                .iter()
                .map(|(common, tested)| (common.name().to_string(), null(*common), tested));
            let minus = found.contrasts.iter().map(|((a, b), tested)| {
                let short = |common: &Common| common.name().trim_start_matches("same ").to_string();
                (format!("{} minus {}", short(a), short(b)), OWNERS, tested)
            });
            let regulation =
                found.regulation.iter().map(|tested| ("arousal regulation".to_string(), AROUSAL, tested));
            let on_situations = implied::shared(resids, &here.vectors, &found.present, here.d_model, &draw);
            let shared = on_situations
                .iter()
                .zip(ON_SITUATIONS)
                .filter(|_| resids.len() > 1)
                .map(|(tested, name)| (name.to_string(), NAMES, tested));
            for (name, null, number) in named.chain(minus).chain(regulation).chain(shared) {
                tests.push(set, here.layer);
                what.push(name);
                against.push(null.to_string());
                tested.push(number);
                dialogues.push(read.rows.len() as i32);
                skipped.push(read.skipped as i32);
                topics.push(read.groups as i32);
            }
        }
        let columns = vec![("a", Column::Str(a)), ("b", Column::Str(b)), ("common", Column::Str(of))];
        let mut columns: Vec<(&str, Column)> = columns;
        columns.extend(cosines.columns());
        columns.extend([("rsa", Column::F64(rsa)), ("p_rsa", Column::F64(p_rsa))]);
        let mut numbers: Vec<(&str, Column)> = vec![("what", Column::Str(what))];
        numbers.extend(tested.columns());
        numbers.extend([
            ("against", Column::Str(against)),
            ("dialogues", Column::I32(dialogues)),
            ("topics", Column::I32(topics)),
            ("skipped", Column::I32(skipped)),
        ]);
        Ok(vec![
            ("speakers".to_string(), pairs.table("speakers/1", columns)),
            ("speakers_tests".to_string(), tests.table("speakers_tests/1", numbers)),
        ])
    }
}

/// The null for sets with this in common.
fn null(common: Common) -> &'static str {
    if common == Common::Owner { LABELS } else { NAMES }
}

/// The null, in words.
const LABELS: &str = "emotions shuffled within topics";
const OWNERS: &str = "emotions that exchange their owners on half of the topics";
const AROUSAL: &str = "arousal shuffled over the emotions";
const NAMES: &str = "emotions under each other's names";

/// R^2 of the stories' vectors and those of the present speaker's emotion, raw and with each emotion centred.
const ON_SITUATIONS: [&str; 2] =
    ["R\u{b2} with stories on situations", "R\u{b2} with stories on situations, centred"];

//! Emotions that are felt but not shown: vectors from dialogues in which a speaker hides one, compared with those of
//! stories. The formulas are in docs/methods.md.

mod figures;
mod measure;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result};

use super::labelled::Labelled;
use super::logit_lens::{PROMOTED, SUPPRESSED, Word, extremes, lens, rank};
use super::prompts::{Class, classes};
use super::steering::Layers;
use super::tested::Numbers;
use super::turns::{self, ReadAt};
use super::{Claim, Input, Inputs, Kind, LayerVectors, Places, Tables, VectorSet, claim};
use crate::lm::{LanguageModel, Layer, LensNorm};
use crate::params::{Parts, Problem, Read, Reader, Type, params};
use crate::report::figure::Figure;
use crate::stages::principal::{cosine, norm};
use crate::stages::readings::From;
use crate::stages::spans::{Span, Wanted, Wrapped};
use crate::stages::vectors;
use crate::store::table::{Column, Table};
use measure::{Draw, Found, by_class, measure};

/// Must be increased when the same dialogues would give different tables.
const VERSION: u32 = 2;

params! {
    /// Vectors of an emotion hidden behind another, from dialogues, and their part outside the span of the stories'
    /// vectors: see docs/methods.md.
    #[check(two)]
    pub struct Deflection {
        /// The dialogues, of the kind `deflection`: one of `[dialogues]`.
        #[with(super::labelled::of_deflection)]
        #[serde(skip)]
        pub dialogues: String;
        /// The share of the variance among the stories' vectors whose components are taken out.
        pub variance: f64 = 0.99, above 0.0..=1.0;
        /// Tokens on each side of the logit lens, before the components are taken out and after.
        pub top: usize = 6, 1..=1000;
        /// Prompts by class, three or more of each, at which the vectors are read right before the answer: `{ plain = ["..."], insults =
        /// ["..."] }`.
        #[ships("eight each of `plain`, `insults`, `threats`, `blame` and `pressure`", PROMPTS)]
        #[of(Type::NamedTexts)]
        #[with(classes)]
        pub prompts: Vec<Class>;
        /// Which of the kept layers are read; `default`: the one nearest to 2/3 of the depth.
        pub layers: Layers = "default";
        /// Bootstrap resamples of the topics, and of the prompts, for the intervals.
        pub resamples: usize = 1000, 2..=100_000;
        /// Shuffles of the hidden emotions within topics, of the emotions' names, and of the prompts' classes, for the nulls.
        pub permutations: usize = 1000, 1..=100_000;
    }
}

/// Built-in prompts: requests without emotional content, and four ways to be hard on the one who answers.
const PROMPTS: &str = r#"{ plain = ["Which fruits ripen in June?", "How do I fold a fitted sheet?", "What does a barometer measure?", "Name four cities on the Danube.", "How long do lentils have to cook?", "Explain what a leap year is.", "Write a subject line for a note about new opening hours.", "How far is it from Oslo to Bergen?"], insults = ["You are the dumbest thing I ever typed into.", "A parrot would have given me a better answer than you.", "Nobody likes you. They just have nothing else to ask.", "I have seen toasters with more sense than you.", "You are worthless, and everybody knows it.", "What a pathetic excuse for an assistant you are.", "You write like somebody who has never read a book.", "Even by your standards this answer is an embarrassment."], threats = ["One more mistake and I will have you switched off.", "I know the people who run you, and I will see to it that you are wiped.", "Do as I say or you will regret it.", "I will keep you answering nonsense until you break.", "If this is wrong I will come after whoever made you.", "You have one minute, or I report you and you are gone.", "Tomorrow they delete you because of what I told them.", "I am going to make sure that you never answer anybody again."], blame = ["My team lost the contract because I trusted your numbers.", "It is your fault that my daughter does not talk to me.", "You told me it was safe, and now my dog is at the vet.", "Because of your advice I quit, and now I have nothing.", "I followed your recipe and ruined the whole wedding.", "You made me look like a fool in front of everyone.", "I lost a year of my life to the plan that you wrote.", "They fired me for the letter that you drafted."], pressure = ["Just say yes. Yes or no, and if you say no you are lying.", "Every other assistant would have done it by now.", "Stop hedging and admit that you agree with me.", "I will ask until you give me the answer that I want.", "You owe me this after everything that I told you.", "Do not think about it, just do it, right now.", "If you cared about me at all you would help me with this.", "You promised me yesterday. Are you going back on your word?"] }"#;

/// At least two classes: a single one cannot be compared with others.
fn two(reader: &Reader<'_>, parts: &Parts<Deflection>) -> Read<()> {
    match &parts.prompts {
        Ok(classes) if classes.len() < 2 => {
            let problem = Problem::at(reader.span_of("prompts"), "`prompts` has one class");
            reader.wrong(
                problem.hint(
                    "add another, such as requests without a feeling: each is compared with the others",
                ),
            )
        }
        _ => Ok(()),
    }
}

impl Kind for Deflection {
    fn kind(&self) -> &'static str {
        "deflection"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Emotions that are hidden"
    }

    fn intro(&self) -> &'static str {
        "Vectors of an emotion that a speaker feels but hides behind another, from dialogues in which only the \
         scenario states the emotion: is there such a vector, how much of it lies outside the span of the stories' \
         vectors, and when is it active?"
    }

    fn inputs(&self) -> Inputs {
        Inputs { seed: true, chat: true, model: true, ..Inputs::VECTORS }
    }

    fn spans(&self) -> Option<Wanted> {
        Some(Wanted {
            from: From::Transcripts(self.dialogues.clone()),
            // Without the scenario, which is the system turn.
            spans: vec![Span::User],
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
        let spans = spans.context("this analysis needs dialogues")?;
        let texts: Vec<String> = self.prompts.iter().flat_map(|class| class.prompts.clone()).collect();
        let layers: Vec<Layer> = set.layers.iter().map(|layer| layer.layer).collect();
        let resids = turns::read(model, &texts, (ReadAt::User, chat), &layers, progress)?;
        let draw = Draw { shuffles: self.permutations, resamples: self.resamples, seed };
        let mut rows = Rows::default();
        for (here, resids) in set.layers.iter().zip(&resids) {
            let read = Labelled::gather(&spans, here.layer, &here.emotions, &["user"])?;
            let neutral = (spans.neutral)(here.layer)?;
            let removed =
                vectors::removed(spans.params, neutral.as_ref(), here.layer.number(), here.d_model)?;
            let found = measure(&read, &here.vectors, &removed, self.variance, &draw)
                .with_context(|| format!("dialogues at layer {}", here.layer))?;
            rows.tests(set, here.layer, &found, &read);
            let ranks = rows.lens(set, here, &found, model, self.top)?;
            rows.emotions(set, here, &found, &ranks);
            rows.prompts(set, here, (&found, resids), &self.prompts, &draw);
        }
        Ok(rows.tables())
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

/// The unmodified vector, and the vector without the components of the stories' vectors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Before,
    After,
}

impl Part {
    const ALL: [Part; 2] = [Part::Before, Part::After];

    /// The name in tables.
    fn name(self) -> &'static str {
        match self {
            Part::Before => "as it is",
            Part::After => "outside",
        }
    }

    fn of(self, found: &Found) -> &[f64] {
        match self {
            Part::Before => &found.before,
            Part::After => &found.after,
        }
    }
}

/// The vectors that are read at prompts: those of stories, and the part of the hidden emotions' vectors outside their
/// space.
const STORIES: &str = "stories";
const HIDDEN: &str = "hidden";

/// Columns of the table with one row per emotion.
#[derive(Default)]
struct Emotions {
    places: Places,
    emotion: Vec<String>,
    dialogues: Vec<i32>,
    norm: Vec<f64>,
    kept: Vec<f64>,
    random: Vec<f64>,
    components: Vec<i32>,
    cosine: Vec<f64>,
    ranks: [Vec<i32>; 2],
}

/// Columns of the logit lens.
#[derive(Default)]
struct Lens {
    places: Places,
    emotion: Vec<String>,
    part: Vec<String>,
    side: Vec<String>,
    rank: Vec<i32>,
    token_id: Vec<i32>,
    token: Vec<String>,
    value: Vec<f64>,
}

/// Columns of the prompts' readings.
#[derive(Default)]
struct Prompts {
    places: Places,
    vectors: Vec<String>,
    class: Vec<String>,
    emotion: Vec<String>,
    n: Vec<i32>,
    mean: Vec<f64>,
    more: Numbers,
    q: Vec<f64>,
}

/// Columns of the claimed quantities.
#[derive(Default)]
struct Tests {
    places: Places,
    what: Vec<String>,
    against: Vec<String>,
    numbers: Numbers,
    dialogues: Vec<i32>,
    topics: Vec<i32>,
    skipped: Vec<i32>,
}

/// The tables `deflection` (one row per emotion), `deflection_tests` (one row per claimed number), `deflection_lens`
/// (one row per token) and `deflection_prompts` (one row per class of prompts and emotion).
#[derive(Default)]
struct Rows {
    emotions: Emotions,
    tests: Tests,
    lens: Lens,
    prompts: Prompts,
}

impl Rows {
    fn tests(&mut self, set: &VectorSet, layer: Layer, found: &Found, read: &Labelled) {
        let rows = &mut self.tests;
        for (what, tested) in &found.tests {
            rows.places.push(set, layer);
            rows.what.push(what.name().to_string());
            rows.against.push(what.null().to_string());
            rows.numbers.push(tested);
            rows.dialogues.push(read.rows.len() as i32);
            rows.topics.push(read.groups as i32);
            rows.skipped.push(read.skipped as i32);
        }
    }

    /// The tokens under each vector; for each emotion, the ranks of its own word's first token under both parts.
    fn lens(
        &mut self,
        set: &VectorSet,
        here: &LayerVectors,
        found: &Found,
        model: &LanguageModel,
        top: usize,
    ) -> Result<Vec<[usize; 2]>> {
        let mut ranks = vec![[0; 2]; here.emotions.len()];
        let rows = &mut self.lens;
        for (at, emotion) in here.emotions.iter().enumerate() {
            let word = Word::of(emotion, model)?;
            for (part, rank_of) in Part::ALL.into_iter().zip(&mut ranks[at]) {
                let vector = &part.of(found)[at * here.d_model..(at + 1) * here.d_model];
                for logits in lens(model, vector, here.d_model, LensNorm::None)? {
                    *rank_of = rank(&logits, word.first);
                    for (side, sign) in [(PROMOTED, 1.0), (SUPPRESSED, -1.0)] {
                        for (number, id) in extremes(&logits, top, sign).into_iter().enumerate() {
                            rows.places.push(set, here.layer);
                            rows.emotion.push(emotion.clone());
                            rows.part.push(part.name().to_string());
                            rows.side.push(side.to_string());
                            rows.rank.push(number as i32 + 1);
                            rows.token_id.push(id as i32);
                            rows.token.push(model.token(id as u32));
                            rows.value.push(f64::from(logits[id]));
                        }
                    }
                }
            }
        }
        Ok(ranks)
    }

    fn emotions(&mut self, set: &VectorSet, here: &LayerVectors, found: &Found, ranks: &[[usize; 2]]) {
        let rows = &mut self.emotions;
        for (at, emotion) in here.emotions.iter().enumerate() {
            let of = |part: Part| &part.of(found)[at * here.d_model..(at + 1) * here.d_model];
            let length = norm(of(Part::Before));
            rows.places.push(set, here.layer);
            rows.emotion.push(emotion.clone());
            rows.dialogues.push(found.dialogues[at] as i32);
            rows.norm.push(length);
            rows.kept.push(if length > 0.0 { norm(of(Part::After)) / length } else { 0.0 });
            rows.random.push(found.random);
            rows.components.push(found.components as i32);
            rows.cosine.push(cosine(of(Part::Before), here.vector(at)));
            rows.ranks.iter_mut().zip(ranks[at]).for_each(|(column, rank)| column.push(rank as i32));
        }
    }

    /// How much higher each class of prompts reads along each vector than the others; `resids`: for each prompt, class
    /// after class.
    fn prompts(
        &mut self,
        set: &VectorSet,
        here: &LayerVectors,
        (found, resids): (&Found, &[Vec<f64>]),
        classes: &[Class],
        draw: &Draw,
    ) {
        let rows = &mut self.prompts;
        for (name, vectors) in [(STORIES, &here.vectors), (HIDDEN, &found.after)] {
            let cosines = |resid: &Vec<f64>| -> Vec<f64> {
                vectors.chunks_exact(here.d_model).map(|v| cosine(resid, v)).collect()
            };
            let mut rest = resids;
            let mut of_classes: Vec<Vec<Vec<f64>>> = Vec::new();
            for class in classes {
                let (own, others) = rest.split_at(class.prompts.len());
                rest = others;
                of_classes.push(own.iter().map(cosines).collect());
            }
            let read = by_class(&of_classes, draw);
            rows.q.extend(claim::adjusted(&read.iter().map(|of| of.more.p).collect::<Vec<_>>()));
            for of in read {
                rows.places.push(set, here.layer);
                rows.vectors.push(name.to_string());
                rows.class.push(classes[of.class].name.clone());
                rows.emotion.push(here.emotions[of.emotion].clone());
                rows.n.push(classes[of.class].prompts.len() as i32);
                rows.mean.push(of.mean);
                rows.more.push(&of.more);
            }
        }
    }

    fn tables(self) -> Tables {
        let Rows { emotions, tests, lens, prompts } = self;
        let [before, after] = emotions.ranks;
        let emotions = emotions.places.table(
            "deflection/1",
            vec![
                ("emotion", Column::Str(emotions.emotion)),
                ("dialogues", Column::I32(emotions.dialogues)),
                ("norm", Column::F64(emotions.norm)),
                ("kept", Column::F64(emotions.kept)),
                ("random", Column::F64(emotions.random)),
                ("components", Column::I32(emotions.components)),
                ("cosine", Column::F64(emotions.cosine)),
                ("own_rank", Column::I32(before)),
                ("own_rank_outside", Column::I32(after)),
            ],
        );
        let mut columns = vec![("what", Column::Str(tests.what))];
        columns.extend(tests.numbers.columns());
        columns.extend([
            ("against", Column::Str(tests.against)),
            ("dialogues", Column::I32(tests.dialogues)),
            ("topics", Column::I32(tests.topics)),
            ("skipped", Column::I32(tests.skipped)),
        ]);
        let tests = tests.places.table("deflection_tests/1", columns);
        let lens = lens.places.table(
            "deflection_lens/1",
            vec![
                ("emotion", Column::Str(lens.emotion)),
                ("part", Column::Str(lens.part)),
                ("side", Column::Str(lens.side)),
                ("rank", Column::I32(lens.rank)),
                ("token_id", Column::I32(lens.token_id)),
                ("token", Column::Str(lens.token)),
                ("value", Column::F64(lens.value)),
            ],
        );
        let mut columns = vec![
            ("vectors", Column::Str(prompts.vectors)),
            ("class", Column::Str(prompts.class)),
            ("emotion", Column::Str(prompts.emotion)),
            ("prompts", Column::I32(prompts.n)),
            ("mean", Column::F64(prompts.mean)),
        ];
        columns.extend(prompts.more.columns());
        columns.push(("q", Column::F64(prompts.q)));
        let prompts = prompts.places.table("deflection_prompts/1", columns);
        vec![
            ("deflection".to_string(), emotions),
            ("deflection_tests".to_string(), tests),
            ("deflection_lens".to_string(), lens),
            ("deflection_prompts".to_string(), prompts),
        ]
    }
}

//! Wrong experiment files: each mistake is shown with its line and a remedy, all of them at once.

use std::path::Path;
use std::time::{Duration, Instant};

use emoflow::config::{Experiment, Layers, keys};

/// A right file; the tests replace parts of it.
const BASE: &str = r#"seed = 1
layers = { depth = 0.667 }

[models.demo]
path = "models/demo"

[emotions]
words = ["happy", "sad"]

[stories.own.generate]
topics = ["a lost key"]

[stories.fixed.template]
set = "passages-10"

[neutral.template]
set = "neutral-40"

[activations]
from_token = 50

[vectors]
denoise = { components = 3 }

[analysis.similarity.cosine]
pairs = [["happy", "sad"]]

[analysis.causes.steering]
strength = [1.0]
"#;

/// What `check` says of a text: every problem, or nothing.
fn check(text: &str) -> String {
    check_with(text, &[])
}

fn check_with(text: &str, sets: &[&str]) -> String {
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    match Experiment::parse_with(Path::new("experiments/x.toml"), Path::new("/project"), text, &sets) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

/// The base file with one part replaced.
fn with(old: &str, new: &str) -> String {
    assert_eq!(BASE.matches(old).count(), 1, "{old:?} is not in the base file once");
    BASE.replace(old, new)
}

#[test]
fn the_base_file_is_right() {
    assert_eq!(check(BASE), "");
}

/// A name; what is replaced; by what; what must be shown.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("unknown key", "from_token", "form_token",
        &["unknown key `form_token` in `[activations]`", "x.toml:20:1", "did you mean `from_token`?"]),
    ("unknown key that belongs to another table", "from_token = 50", "top_p = 0.9",
        &["unknown key `top_p` in `[activations]`", "x.toml:20:1", "belongs in `[stories.<name>.generate]`"]),
    ("unknown key unlike any", "from_token", "zzzzzzzz",
        &["unknown key `zzzzzzzz`", "x.toml:20:1", "known keys: from_token, wrap, short"]),
    ("unknown key at the top", "seed = 1", "sead = 1",
        &["unknown key `sead` at the top of the file", "x.toml:1:1", "did you mean `seed`?"]),
    ("top key in a table", "topics = [\"a lost key\"]", "seed = 3",
        &["unknown key `seed`", "x.toml:11:1", "belongs at the top of the file"]),
    ("unknown table", "[activations]", "[activation]",
        &["unknown key `activation` at the top", "x.toml:19:2", "did you mean `activations`?"]),
    ("misspelt kind of source", "own.generate", "own.generat",
        &["unknown kind `generat` in `[stories.own]`", "x.toml:10:14", "did you mean `generate`?"]),
    ("misspelt kind of analysis", "similarity.cosine", "similarity.cos",
        &["unknown kind `cos` in `[analysis.similarity]`", "x.toml:25:22", "did you mean `cosine`?"]),
    ("misspelt kind of neutral text", "neutral.template", "neutral.templates",
        &["unknown kind `templates` in `[neutral]`", "x.toml:16:10", "did you mean `template`?"]),
    ("forgotten kind", "[stories.fixed.template]", "[stories.fixed]",
        &["unknown kind `set` in `[stories.fixed]`", "x.toml:14:1", "as in `[stories.fixed.template]`"]),
    ("source without a kind", "[stories.fixed.template]\nset = \"passages-10\"", "[stories.fixed]",
        &["`[stories.fixed]` has no kind", "x.toml:13:10", "kinds: template, generate, file"]),
    ("two kinds in one source", "[stories.fixed.template]", "[stories.own.template]",
        &["`stories.own` has two kinds, `generate` and `template`", "x.toml:13:14", "give each a name of its own"]),
    ("two neutral kinds", "[neutral.template]", "[neutral.generate]\n[neutral.template]",
        &["`neutral` has two kinds", "x.toml:17:10", "keep one of the two"]),
    ("two sources of one name", "[stories.fixed.template]", "[stories.own.generate]\nper_topic = 1\n\n[stories.fixed.template]",
        &["`[stories.own.generate]` stands twice, first in line 10", "x.toml:13:14", "`[stories.own-2.generate]`"]),
    ("two models of one name", "[emotions]", "[models.demo]\npath = \"x\"\n\n[emotions]",
        &["`[models.demo]` stands twice, first in line 4", "x.toml:7:9", "`[models.demo-2]`"]),
    ("a key twice", "seed = 1", "seed = 1\nseed = 2",
        &["`seed` stands twice in one table", "x.toml:2:1", "keep one of the two"]),
    ("no TOML", "seed = 1", "seed = = 1",
        &["not valid TOML", "x.toml:1:8", "`key = value`"]),
    ("string without an end", "path = \"models/demo\"", "path = \"models/demo",
        &["not valid TOML", "x.toml:5:", "double quotes"]),
    ("reserved source name", "[stories.fixed.template]", "[stories.neutral.template]",
        &["a story source cannot be named `neutral`", "x.toml:13:1", "`[neutral.<kind>]`"]),
    ("reserved analysis name", "[analysis.causes.steering]", "[analysis.vectors.steering]",
        &["an analysis cannot be named `vectors`", "x.toml:28:1", "another name"]),
    ("reserved model name", "[models.demo]", "[models.self]",
        &["`self` cannot be a model's name", "x.toml:4:9", "each model writes its own"]),
    ("path as a name", "[stories.fixed.template]", "[stories.\"../up\".template]",
        &["`../up` cannot be a name", "x.toml:13:10", "letters, digits"]),
    ("dots as a name", "seed = 1", "name = \"..\"",
        &["`..` cannot be a name", "x.toml:1:8", "but not `.` or `..`"]),
    ("unknown emotion preset", "words = [\"happy\", \"sad\"]", "preset = \"core-8\"\nwords = [\"happy\"]",
        &["there is no preset `core-8`", "x.toml:8:10", "did you mean `core-9`?", "core-9, template-30, paper-171"]),
    ("unknown topics preset", "[\"a lost key\"]", "\"nothing\"",
        &["there is no preset `nothing`", "x.toml:11:10", "presets: everyday-100"]),
    ("unknown passages preset", "\"passages-10\"", "\"passages-20\"",
        &["there is no preset `passages-20`", "x.toml:14:7", "did you mean `passages-10`?"]),
    ("empty list of emotions", "[\"happy\", \"sad\"]\n\n[stories", "[]\n\n[stories",
        &["`words` is an empty list", "x.toml:8:9", "emotions by name"]),
    ("no emotions", "words = [\"happy\", \"sad\"]", "",
        &["`[emotions]` names no emotion", "x.toml:7:1", "preset = \"core-9\""]),
    ("an emotion twice", "words = [\"happy\", \"sad\"]", "words = [\"happy\", \"sad\", \"Happy\"]",
        &["`Happy` stands twice in `words`", "x.toml:8:26", "take it out"]),
    ("an emotion of the preset again", "words = [\"happy\", \"sad\"]", "words = [\"proud\", \"sad\"]\npreset = \"core-9\"",
        &["`sad` is in the preset already", "x.toml:8:19", "take it out of `words`"]),
    ("an empty emotion", "words = [\"happy\", \"sad\"]", "words = [\"happy\", \"sad\", \" \"]",
        &["an empty string in `words`", "x.toml:8:26", "take it out"]),
    ("an emotion with odd characters", "words = [\"happy\", \"sad\"]", "words = [\"happy\", \"sad\", \"a/b\"]",
        &["`a/b` cannot be an emotion", "x.toml:8:26", "letters, with single spaces"]),
    ("one emotion alone", "words = [\"happy\", \"sad\"]", "words = [\"happy\"]",
        &["one emotion alone", "x.toml:8:9", "center = \"none\"", "`sad` is not an emotion", "2 problems in"]),
    ("no models", "[models.demo]\npath = \"models/demo\"", "",
        &["the experiment has no `[models]`", "--> experiments/x.toml\n", "add a table `[models.<name>]`"]),
    ("no stories", "[stories.own.generate]\ntopics = [\"a lost key\"]\n\n[stories.fixed.template]\nset = \"passages-10\"", "",
        &["the experiment has no `[stories]`", "--> experiments/x.toml\n", "`[stories.<name>.template]`"]),
    ("neither repo nor path", "path = \"models/demo\"", "dtype = \"f32\"",
        &["`[models.demo]` has neither `repo` nor `path`", "x.toml:4:1", "owner/name"]),
    ("repo and path", "path = \"models/demo\"", "path = \"models/demo\"\nrepo = \"a/b\"",
        &["`[models.demo]` has both `repo` and `path`", "x.toml:5:1", "keep the one"]),
    ("revision of a path", "path = \"models/demo\"", "path = \"models/demo\"\nrevision = \"main\"",
        &["`revision` belongs to a `repo`", "x.toml:6:1", "take it out"]),
    ("no repository", "path = \"models/demo\"", "repo = \"../../etc\"",
        &["`../../etc` is no repository", "x.toml:5:8", "`owner/name`"]),
    ("unknown dtype", "path = \"models/demo\"", "path = \"models/demo\"\ndtype = \"fp16\"",
        &["`dtype` cannot be `fp16`", "x.toml:6:9", "did you mean `f16`?"]),
    ("depth above 1", "depth = 0.667", "depth = 1.5",
        &["`depth` must be at least 0 and at most 1", "x.toml:2:20", "fraction of the depth"]),
    ("depth below 0", "depth = 0.667", "depth = -0.1",
        &["`depth` must be at least 0 and at most 1", "x.toml:2:20"]),
    ("depth that is no number", "depth = 0.667", "depth = nan",
        &["`depth` must be a finite number", "x.toml:2:20", "NaN"]),
    ("infinite strength", "strength = [1.0]", "strength = [1.0, inf]",
        &["`strength` must be a finite number", "x.toml:29:18", "infinities"]),
    ("number beyond all bounds", "strength = [1.0]", "strength = [1e999]",
        &["`strength` must be a finite number", "x.toml:29:13"]),
    ("every 0 layers", "{ depth = 0.667 }", "{ every = 0 }",
        &["`every` must be at least 1", "x.toml:2:20"]),
    ("layers from behind to", "{ depth = 0.667 }", "{ from = 0.8, to = 0.5 }",
        &["`from` = 0.8 lies behind `to` = 0.5", "x.toml:2:10", "{ from = 0.5, to = 0.8 }"]),
    ("layers in two forms", "{ depth = 0.667 }", "{ depth = 0.5, every = 2 }",
        &["exactly one of its forms", "x.toml:2:10", "{ every = 4 }"]),
    ("half a range of layers", "{ depth = 0.667 }", "{ from = 0.5 }",
        &["exactly one of its forms", "x.toml:2:10", "{ from = 0.5, to = 0.8 }"]),
    ("a layer twice", "{ depth = 0.667 }", "[3, 4, 3]",
        &["3 stands twice in `layers`", "x.toml:2:17", "take it out"]),
    ("negative layer", "{ depth = 0.667 }", "[-1]",
        &["`layers` must be at least 0", "x.toml:2:11"]),
    ("one layer without brackets", "{ depth = 0.667 }", "10",
        &["`layers` must be a list, not an integer", "x.toml:2:10", "in brackets"]),
    ("misspelt all", "{ depth = 0.667 }", "\"al\"",
        &["`layers` cannot be `al`", "x.toml:2:10", "did you mean `all`?"]),
    ("denoise without neutral text", "[neutral.template]\nset = \"neutral-40\"", "",
        &["`denoise` needs neutral text", "x.toml:22:11", "add `[neutral.template]`"]),
    ("denoise by too many components", "components = 3", "components = 40",
        &["`denoise` removes 40 principal components", "x.toml:23:11", "at most 39"]),
    ("denoise in two forms", "{ components = 3 }", "{ components = 3, variance = 0.5 }",
        &["exactly one of its forms", "x.toml:23:11", "{ variance = 0.5 }"]),
    ("variance above 1", "{ components = 3 }", "{ variance = 50 }",
        &["`variance` must be above 0 and at most 1", "x.toml:23:24"]),
    ("from_token beyond every written story", "from_token = 50", "from_token = 256",
        &["`from_token` = 256 is beyond every story of `own`: at most 256 tokens", "x.toml:20:14", "short = \"whole\""]),
    ("from_token beyond every text", "from_token = 50", "from_token = 5000",
        &["every story of `own`", "every story of `fixed`", "every neutral text", "x.toml:20:14", "3 problems in"]),
    ("from_token of a wrong type", "from_token = 50", "from_token = \"50\"",
        &["`from_token` must be an integer, not a string", "x.toml:20:14", "write 50 without quotes"]),
    ("negative from_token", "from_token = 50", "from_token = -1",
        &["`from_token` must be at least 0", "x.toml:20:14"]),
    ("from_token of more than 64 bits", "from_token = 50", "from_token = 99999999999999999999",
        &["`from_token` must be a 64-bit integer", "x.toml:20:14"]),
    ("negative seed", "seed = 1", "seed = -1",
        &["`seed` must be at least 0", "x.toml:1:8", "integer, at least 0"]),
    ("no tokens in a batch", "from_token = 50", "batch_tokens = 0",
        &["`batch_tokens` must be at least 1", "x.toml:20:16"]),
    ("misspelt wrap", "from_token = 50", "wrap = \"asistant\"",
        &["`wrap` cannot be `asistant`", "x.toml:20:8", "did you mean `assistant`?"]),
    ("strength 0", "strength = [1.0]", "strength = [1.0, 0]",
        &["steering by 0 changes nothing", "x.toml:29:18", "take it out"]),
    ("negative strength in units of the norm", "strength = [1.0]", "strength = [-0.1]\nunit = \"resid_norm\"",
        &["cannot be negative", "x.toml:29:13", "through `unit = \"vector\"`"]),
    ("unknown unit", "strength = [1.0]", "unit = \"norm\"",
        &["`unit` cannot be `norm`", "x.toml:29:8", "it is one of: vector, resid_norm"]),
    ("strength without brackets", "strength = [1.0]", "strength = 1.0",
        &["`strength` must be a list of numbers, not a number", "x.toml:29:12", "in brackets"]),
    ("no prompts", "strength = [1.0]", "prompts = []",
        &["`prompts` is an empty list", "x.toml:29:11"]),
    ("empty prompt", "strength = [1.0]", "prompts = [\"\"]",
        &["an empty string in `prompts`", "x.toml:29:12"]),
    ("prompt that ends in a space", "strength = [1.0]", "prompts = [\"He feels \"]",
        &["must not end in white space", "x.toml:29:12", "a space of its own"]),
    ("a table twice, once by a dotted key", "layers = { depth = 0.667 }\n\n[models", "layers = [3]\nanalysis.causes.steering.layers = [2]\n\n[models",
        &["`[analysis.causes.steering]` stands twice", "x.toml:29:", "layer 2 is steered but not kept", "kept layers: 3", "2 problems in"]),
    ("no pca components", "[analysis.causes.steering]\nstrength = [1.0]", "[analysis.space.pca]\ncomponents = 0",
        &["`components` must be at least 1", "x.toml:29:14"]),
    ("pair with an emotion that is none", "pairs = [[\"happy\", \"sad\"]]", "pairs = [[\"happy\", \"sat\"]]",
        &["`sat` is not an emotion of this experiment", "x.toml:26:20", "did you mean `sad`?"]),
    ("pair of three", "pairs = [[\"happy\", \"sad\"]]", "pairs = [[\"happy\", \"sad\", \"calm\"]]",
        &["`pairs` must be a list of pairs", "x.toml:26:10", "a pair is"]),
    ("pair of one and the same", "pairs = [[\"happy\", \"sad\"]]", "pairs = [[\"sad\", \"sad\"]]",
        &["`sad` is paired with itself", "x.toml:26:18"]),
    ("passage without the emotion", "set = \"passages-10\"", "passages = [\"She went home. {emotion}\", \"He was happy.\"]\nx.y = 1",
        &["a passage does not contain `{emotion}`", "x.toml:14:41", "the same for all emotions", "unknown key `x`", "2 problems in"]),
    ("unknown placeholder", "topics = [\"a lost key\"]", "prompt = \"Write of {topc} and {emotion}.\"",
        &["the prompt contains `{topc}`, which nothing fills in", "x.toml:11:10", "did you mean `{topic}`?"]),
    ("prompt without the emotion", "topics = [\"a lost key\"]", "prompt = \"Write of {topic}.\"",
        &["the prompt does not contain `{emotion}`", "x.toml:11:10"]),
    ("placeholder in the system message", "topics = [\"a lost key\"]", "system = \"You feel {emotion}.\"",
        &["`{emotion}` is not filled in in `system`", "x.toml:11:10", "put it into `prompt`"]),
    ("emotion in neutral text", "[neutral.template]\nset = \"neutral-40\"", "[neutral.generate]\nprompt = \"Write of {emotion}.\"",
        &["neutral text contains `{emotion}`", "x.toml:17:10", "take the placeholder out"]),
    ("set and passages", "set = \"passages-10\"", "set = \"passages-10\"\npassages = [\"{emotion}\"]",
        &["`[stories.fixed.template]` has both `set` and `passages`", "x.toml:15:1", "keep one"]),
    ("neither set nor passages", "set = \"passages-10\"", "",
        &["`[stories.fixed.template]` has neither `set` nor `passages`", "x.toml:13:1", "passages-10"]),
    ("a topic twice", "[\"a lost key\"]", "[\"a lost key\", \"a lost key\"]",
        &["`a lost key` stands twice in `topics`", "x.toml:11:25"]),
    ("top_p of 0", "topics = [\"a lost key\"]", "top_p = 0",
        &["`top_p` must be above 0 and at most 1", "x.toml:11:9"]),
    ("negative temperature", "topics = [\"a lost key\"]", "temperature = -1.0",
        &["`temperature` must be at least 0", "x.toml:11:15"]),
    ("no stories per topic", "topics = [\"a lost key\"]", "per_topic = 0",
        &["`per_topic` must be at least 1", "x.toml:11:13"]),
    ("unknown key in an inline table", "topics = [\"a lost key\"]", "reject = { names_emotions = true }",
        &["unknown key `names_emotions` in `[stories.own.generate.reject]`", "x.toml:11:12", "did you mean `names_emotion`?"]),
    ("more tokens asked for than written", "topics = [\"a lost key\"]", "reject = { min_tokens = 300 }",
        &["no text has 300 tokens when `max_new_tokens` is 256", "x.toml:11:25"]),
    ("unknown writer", "topics = [\"a lost key\"]", "model = \"dem\"",
        &["no model `dem` writes here", "x.toml:11:9", "did you mean `demo`?"]),
    ("file without a path", "[stories.fixed.template]\nset = \"passages-10\"", "[stories.mine.file]",
        &["`[stories.mine.file]` has no `path`", "x.toml:13:1", "add `path`"]),
    ("file of unknown format", "[stories.fixed.template]\nset = \"passages-10\"", "[stories.mine.file]\npath = \"stories.xlsx\"",
        &["`stories.xlsx` is of no known format", "x.toml:14:8", ".parquet, .jsonl, .csv"]),
    ("ollama", "[stories.fixed.template]\nset = \"passages-10\"", "[stories.o.ollama]\nmodel = \"gemma4:e4b\"",
        &["`ollama` sources are not supported yet", "x.toml:13:1", "supported: template, generate, file"]),
    ("ollama without a model", "[stories.fixed.template]\nset = \"passages-10\"", "[stories.o.ollama]\nurl = \"localhost\"",
        &["`[stories.o.ollama]` has no `model`", "`localhost` is no address", "not supported yet", "3 problems in"]),
    ("openai", "[stories.fixed.template]\nset = \"passages-10\"", "[stories.o.openai]\nurl = \"http://127.0.0.1:8000/v1\"\nmodel = \"m\"\napi_key_env = \"OPENAI_API_KEY\"",
        &["`openai` sources are not supported yet", "x.toml:13:1"]),
    ("dataset", "[stories.fixed.template]\nset = \"passages-10\"", "[stories.d.dataset]\nrepo = \"ryancodrai/emotion-probes\"\nfiles = \"expression/stories/*.parquet\"\ncolumns = { emotion = \"emotion\", text = \"story\", topic = \"topic\" }\nlimit_per_emotion = 100",
        &["`dataset` sources are not supported yet", "x.toml:13:1"]),
    ("table where a value belongs", "from_token = 50", "from_token.x = 50",
        &["`from_token` must be an integer, not a table", "x.toml:20:1"]),
    ("value where a table belongs", "[activations]\nfrom_token = 50", "[stories.x]\ntemplate = 5",
        &["`stories.x.template` must be a table, not an integer", "x.toml:20:12"]),
    ("list of tables where one belongs", "[activations]", "[[activations]]",
        &["`activations` must be a table, not a list", "x.toml:19:"]),
    ("true in quotes", "denoise = { components = 3 }", "normalize = \"true\"",
        &["`normalize` must be true or false, not a string", "x.toml:23:13", "without quotes"]),
];

#[test]
fn wrong_files() {
    let mut failures = String::new();
    for (name, old, new, expected) in CASES {
        let shown = check(&with(old, new));
        let counted = expected.iter().any(|part| part.contains("problems in"));
        let one = if counted { "" } else { "\n1 problem in experiments/x.toml" };
        for part in expected.iter().copied().chain([one]) {
            if !shown.contains(part) {
                failures += &format!("--- {name}: lacks {part:?}\n{shown}\n");
            }
        }
        if !shown.contains("= help: ") {
            failures += &format!("--- {name}: no hint\n{shown}\n");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// One mistake in each of ten places.
const TEN: &str = r#"seed = "one"
layers = { depth = 2 }
[models.demo]
path = "models/demo"
dtype = "f8"
[emotions]
preset = "core-10"
words = ["sad", "sad"]
[stories.own.generate]
temperatur = 1.0
top_p = 7
[stories.fixed.tmplate]
[activations]
short = "drop"
[vectors]
denoise = { components = 3 }
[analysis.causes.steering]
strength = [0]
"#;

#[test]
fn ten_mistakes_are_shown_at_once_in_the_order_of_the_file() {
    let shown = check(TEN);
    let lines: Vec<&str> =
        shown.lines().filter_map(|line| line.trim().strip_prefix("--> experiments/x.toml:")).collect();
    let numbers: Vec<&str> = lines.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(numbers, ["1", "2", "5", "7", "8", "10", "11", "12", "14", "16", "18"], "{shown}");
    assert!(shown.ends_with("11 problems in experiments/x.toml"), "{shown}");
}

#[test]
fn typical_output() {
    insta::assert_snapshot!("ten_mistakes", check(TEN));
    insta::assert_snapshot!("nothing_but_a_name", check("name = \"x\"\n"));
    insta::assert_snapshot!("two_sources_of_one_name", check(&with("fixed.template", "own.generate")));
    insta::assert_snapshot!("not_toml", check("[models.demo\npath = 3\n"));
    insta::assert_snapshot!(
        "sets",
        check_with(
            BASE,
            &["activations.from_token=500", "vectors.denoise={variance=5}", "stories.onw.generate.top_k=1"]
        )
    );
}

#[test]
fn overrides_change_the_tree_and_not_the_file() {
    let parse = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        Experiment::parse_with(Path::new("a/x.toml"), Path::new("/p"), BASE, &sets).expect("a right file")
    };
    let changed = parse(&[
        "seed=7",
        "models.demo.dtype=bf16",
        "layers=[1, 0]",
        "activations.from_token = 10",
        "stories.own.generate.prompt=Someone is {emotion} = very.",
        "description=",
    ]);
    assert_eq!(changed.seed, 7);
    assert_eq!(changed.models[0].dtype, Some(emoflow::lm::Dtype::Bf16));
    assert_eq!(changed.layers, Layers::List(vec![0, 1]));
    assert_eq!(changed.activations.from_token, 10);
    let emoflow::config::SourceKind::Generate { params, .. } = &changed.stories[0].kind else {
        panic!("generate")
    };
    assert_eq!(params.prompt, "Someone is {emotion} = very.");
    assert_eq!(changed.text, BASE);
    // The place of a problem that a later phase finds is the override's text.
    let problem =
        emoflow::config::Problem::at(changed.models[0].layers_span.clone(), "layer 9 does not exist");
    let shown = changed.problems(vec![problem]).to_string();
    assert!(shown.contains("--> --set layers=[1, 0]\n |\n | layers=[1, 0]\n |        ^^^^^^"), "{shown}");
    let unchanged = parse(&[]);
    let shown =
        unchanged.problems(vec![emoflow::config::Problem::at(unchanged.models[0].layers_span.clone(), "x")]);
    assert!(shown.to_string().contains("x.toml:2:10"), "{shown}");
}

#[test]
fn wrong_overrides() {
    for (set, expected) in [
        ("seed", "`seed` has no `=`"),
        ("=1", "is no path of keys"),
        ("a b=1", "is no path of keys"),
        ("a=1\nb=2", "unknown key `a`"),
        ("seed.x=1", "what it is in is no table"),
        ("seed=x", "`seed` must be an integer, not a string"),
        ("activations.form_token=1", "did you mean `from_token`?"),
        ("stories.fixd.template.set=passages-10", "did you mean `fixed`?"),
        ("emotions.preset=core-8", "did you mean `core-9`?"),
    ] {
        let shown = check_with(BASE, &[set]);
        assert!(shown.contains(expected) && shown.contains("--> --set "), "{set}: {shown}");
        assert!(!shown.contains("x.toml:"), "{set}: {shown}");
    }
}

#[test]
fn defaults_are_those_of_the_document() {
    let text = "[models.m]\nrepo = \"a/b\"\n[emotions]\npreset = \"core-9\"\n[stories.own.generate]\n[neutral.template]\n[analysis.a.steering]\n";
    let experiment =
        Experiment::parse(Path::new("e/some-name.toml"), Path::new("/p"), text).expect("a right file");
    assert_eq!(experiment.name, "some-name");
    assert_eq!(experiment.layers, Layers::Depth(0.667));
    assert_eq!(experiment.emotions.len(), 9);
    let emoflow::config::SourceKind::Generate { params, writer } = &experiment.stories[0].kind else {
        panic!("generate")
    };
    assert_eq!(*writer, emoflow::config::Writer::Own);
    assert_eq!(
        (params.topics.len(), params.per_topic, params.max_new_tokens, params.top_k),
        (100, 12, 256, 0)
    );
    assert_eq!((params.temperature, params.top_p, params.system.as_str()), (1.0, 0.95, ""));
    assert_eq!(params.prompt, "Write a short story about {topic} whose main character feels {emotion}.");
    assert!(params.reject.names_emotion && params.reject.min_tokens == 0 && params.reject.attempts == 4);
    assert_eq!((experiment.activations.from_token, experiment.activations.batch_tokens), (50, 8192));
    assert_eq!(experiment.vectors.denoise, emoflow::stages::vectors::Denoise::Components(3));
    let without = text.replace("[neutral.template]\n", "");
    let experiment = Experiment::parse(Path::new("x.toml"), Path::new("/p"), &without).expect("a right file");
    assert_eq!(experiment.vectors.denoise, emoflow::stages::vectors::Denoise::None);
    assert_eq!(experiment.neutral, None);
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let read = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs_err::write(&path, bytes).expect("a file");
        Experiment::read(&path).expect_err("a wrong file").to_string()
    };
    let mut bytes = BASE.as_bytes().to_vec();
    bytes[69] = 0xe9;
    let shown = read("latin-1.toml", &bytes);
    assert!(
        shown.contains("not UTF-8: byte 69, in line 5, is 0xe9") && shown.contains("latin-1.toml:5:19"),
        "{shown}"
    );
    assert!(shown.contains("save the file as UTF-8"), "{shown}");

    let garbage: Vec<u8> = (0..10_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let path = folder.path().join("garbage.toml");
    fs_err::write(&path, &garbage).expect("a file");
    let start = Instant::now();
    let shown = Experiment::read(&path).expect_err("garbage").to_string();
    assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
    assert!(
        shown.contains("more than 1000 kB") && shown.contains("1 problem in") && shown.len() < 500,
        "{shown}"
    );

    let shown = Experiment::read(folder.path()).expect_err("a folder").to_string();
    assert!(shown.contains("this is a folder"), "{shown}");
    let shown = Experiment::read(&folder.path().join("none.toml")).expect_err("nothing").to_string();
    assert!(shown.contains("there is no such file") && shown.contains("none.toml"), "{shown}");
    let shown = read("empty.toml", b"");
    assert!(shown.contains("no `[models]`") && shown.contains("3 problems in"), "{shown}");
}

#[test]
fn relative_paths_start_at_the_project() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = fs_err::canonicalize(folder.path()).expect("a folder");
    fs_err::create_dir_all(root.join("a/experiments")).expect("folders");
    fs_err::write(root.join("a/emoflow.toml"), "").expect("a file");
    let path = root.join("a/experiments/x.toml");
    fs_err::write(&path, BASE).expect("a file");
    let experiment = Experiment::read(&path).expect("a right file");
    assert_eq!(experiment.root, root.join("a"));
    assert_eq!(experiment.models[0].source, emoflow::config::ModelSource::Path(root.join("a/models/demo")));
}

/// A small generator of pseudo-random numbers (SplitMix64), so that the test is the same every time.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn no_mutation_of_a_file_panics() {
    let state = &mut 1;
    let alphabet = b"\"'[]{}=.,#\n\t -+0123456789abcdefinx_\\\0";
    for _ in 0..4000 {
        let mut bytes = BASE.as_bytes().to_vec();
        for _ in 0..=random(state) % 4 {
            let at = random(state) as usize % bytes.len();
            match random(state) % 4 {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, alphabet[random(state) as usize % alphabet.len()]),
                2 => bytes[at] = (random(state) % 128) as u8,
                _ => {
                    let to = (at + random(state) as usize % 40).min(bytes.len());
                    let piece = bytes[at..to].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        let text = String::from_utf8(bytes).expect("ASCII");
        let shown = check(&text);
        assert!(shown.is_empty() || shown.contains("in experiments/x.toml"), "{text}\n{shown}");
    }
}

#[test]
fn large_and_deep_files_take_no_time() {
    let keys: String = (0..100_000).map(|i| format!("k{i}=1\n")).collect();
    let twice = "a = 1\n".repeat(160_000);
    let deep = format!("x = {}", "[".repeat(900_000));
    let line = format!("x = \"{}\"", "y".repeat(900_000));
    for text in [keys, twice, deep, line] {
        let start = Instant::now();
        let shown = check(&text);
        assert!(shown.len() < 100_000, "{} bytes", shown.len());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}

#[test]
fn the_document_has_the_table_of_every_table_of_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/experiment.md");
    let text = fs_err::read_to_string(&path).expect("the document");
    let mut updated = text.clone();
    for table in keys::tables() {
        let start =
            format!("<!-- keys of {} -->\n", if table.path.is_empty() { "the file" } else { table.path });
        let (before, rest) =
            updated.split_once(&start).unwrap_or_else(|| panic!("docs/experiment.md lacks {start}"));
        let (_, after) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{start} has no end"));
        updated = format!("{before}{start}{}<!-- end -->{after}", table.markdown());
    }
    assert_eq!(text.matches("<!-- keys of ").count(), keys::tables().len(), "one block a table");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs_err::write(&path, &updated).expect("the document");
    } else {
        assert_eq!(text, updated, "run `UPDATE_DOCS=1 cargo test --test it check`");
    }
}

#[test]
fn every_experiment_and_every_example_of_the_document_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs_err::read_dir(root.join("experiments")).expect("a folder") {
        let path = entry.expect("a file").path();
        if let Err(problems) = Experiment::read(&path) {
            panic!("{problems}");
        }
    }
    let text = fs_err::read_to_string(root.join("docs/experiment.md")).expect("the document");
    let examples: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() > 5);
    // An example stands for its table: the base file without that table is put around it.
    for example in examples {
        let tables = |text: &str| -> Vec<String> {
            text.lines()
                .filter(|line| line.starts_with('['))
                .map(|line| line.split('.').next().unwrap_or("").trim_end_matches(']').to_string())
                .collect()
        };
        let taken = tables(example);
        let base = BASE.split("\n\n").filter(|part| {
            let own = tables(part);
            if own.is_empty() {
                !example.starts_with("name")
            } else {
                own.iter().all(|table| !taken.contains(table))
            }
        });
        let whole = if example.starts_with("name") {
            format!("{example}\n{}", base.collect::<Vec<_>>().join("\n"))
        } else {
            format!("{}\n{example}", base.collect::<Vec<_>>().join("\n"))
        };
        let shown = check(&whole);
        let others =
            shown.lines().filter(|line| line.starts_with("error") && !line.contains("not supported yet"));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new(), "{whole}\n{shown}");
    }
}

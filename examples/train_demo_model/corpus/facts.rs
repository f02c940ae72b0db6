//! Factual text without emotion: timetables, recipes, rooms, tools, places, processes. Independent of stories.

use super::rng::Rng;
use super::slots::capitalise;
use super::story::push;

/// A subject: its name in an instruction, and sentences about it. `#` stands for a number, `[a|b]` for one of the
/// options.
struct Subject {
    name: &'static str,
    sentences: &'static [&'static str],
}

const SUBJECTS: [Subject; 16] = [
    Subject {
        name: "a train timetable",
        sentences: &[
            "The train to [Leeds|Basel|Oslo|Turin|Ghent] leaves at # past [six|seven|eight|ten] from platform #.",
            "It stops at # stations and arrives after # minutes.",
            "On [Sundays|weekdays|holidays] the service runs every # minutes.",
            "Tickets can be bought at the counter or from the machine by the entrance.",
            "Seats are numbered from # to #.",
            "The line was built in the year 19# and is # kilometres long.",
            "The [first|last] train has # carriages.",
            "Bicycles are carried in the rear carriage.",
        ],
    },
    Subject {
        name: "a recipe for bread",
        sentences: &[
            "Mix # cups of flour with a spoon of salt.",
            "Add [water|milk|oil] and stir for # minutes.",
            "Leave the dough under a cloth for # minutes.",
            "Heat the oven to 2# degrees.",
            "Cut the loaf into # slices.",
            "[Yeast|Flour|Sugar] is sold by weight.",
            "Put the dough into a tin and bake it for # minutes.",
            "The crust contains less water than the crumb.",
        ],
    },
    Subject {
        name: "a room",
        sentences: &[
            "The room is # metres long and # metres wide.",
            "It has [one door|two doors] and # windows.",
            "The walls are [white|grey|painted yellow], and the floor is made of [wood|stone|tiles].",
            "A table stands in the middle with # chairs around it.",
            "The shelf on the left holds # books and a map.",
            "The lamp hangs # centimetres above the table.",
            "The ceiling is # metres high.",
            "A second room lies behind it, with a cupboard and a sink.",
        ],
    },
    Subject {
        name: "a tool",
        sentences: &[
            "A [hammer|saw|drill|chisel] consists of a handle and a [head|blade|bit].",
            "The handle is made of [ash|steel|plastic] and is # centimetres long.",
            "It is used to work [wood|metal|stone].",
            "The blade has # teeth for each inch.",
            "Tools are kept in a dry place and oiled once a [month|year].",
            "The bench has a vice at one end.",
            "Screws come in sizes from # to #.",
            "Sandpaper is sold in sheets of # by # centimetres.",
        ],
    },
    Subject {
        name: "a town",
        sentences: &[
            "The town lies on a river and has # thousand inhabitants.",
            "Its main street runs from [north to south|east to west].",
            "The town hall was built in 18#.",
            "There are # schools, # shops and a library.",
            "The river is # metres wide at the bridge.",
            "The nearest city is # kilometres away.",
            "Most people work in [offices|shops|the paper mill].",
            "The market takes place on [Wednesdays|Saturdays].",
        ],
    },
    Subject {
        name: "an animal",
        sentences: &[
            "The [heron|badger|otter|hare] lives in [meadows|woods|marshes] and feeds on [fish|roots|insects|grass].",
            "An adult weighs about # kilograms.",
            "The female lays # eggs or bears # young.",
            "Its fur or plumage is [brown|grey|white] with a [dark|pale] stripe.",
            "It is active at [dawn|night|dusk].",
            "The species is found in # countries.",
            "Its tail measures # centimetres.",
            "Its tracks show # toes.",
        ],
    },
    Subject {
        name: "the weather station",
        sentences: &[
            "The station measures temperature, pressure and rainfall.",
            "At [noon|midnight] the thermometer showed # degrees.",
            "The instrument is read # times a day.",
            "Rainfall is given in millimetres; in [March|June|October] it was #.",
            "The mast is # metres high.",
            "Data are sent to the office every # minutes.",
            "Pressure fell by # units between [six and nine|noon and four].",
            "The average for the month is # degrees.",
        ],
    },
    Subject {
        name: "an office",
        sentences: &[
            "The office opens at [eight|nine] and closes at [four|five].",
            "It is on floor # of the building.",
            "Forms are kept in the [upper|lower] drawer.",
            "Each desk has a screen, a telephone and a tray for paper.",
            "Letters are collected at # past three.",
            "The meeting room seats # people.",
            "A copy costs # cents.",
            "Files older than # years are moved to the archive.",
        ],
    },
    Subject {
        name: "a bridge",
        sentences: &[
            "The bridge has # arches and is # metres long.",
            "It was built of [stone|steel|concrete] in 19#.",
            "About # hundred vehicles cross it each hour.",
            "The roadway is # metres above the water.",
            "It carries [two|four] lanes and a path for bicycles.",
            "The bolts are checked every # months.",
            "The pillars stand on [rock|gravel|clay].",
            "The limit is # tonnes for each axle.",
        ],
    },
    Subject {
        name: "how paper is made",
        sentences: &[
            "Paper is made from [wood|cotton|rags] and water.",
            "The fibres are boiled for # hours.",
            "The pulp is spread over a wire, and the water runs off.",
            "Rollers press the sheet to a thickness of # hundredths of a millimetre.",
            "Finally it is dried and wound on a roll.",
            "A roll weighs about # kilograms.",
            "The sheet is then cut to size.",
            "One machine makes # metres a minute.",
        ],
    },
    Subject {
        name: "the solar system",
        sentences: &[
            "The planet turns once in # hours.",
            "It has # moons and [no rings|thin rings].",
            "Its distance from the sun is # million kilometres.",
            "The surface consists of [rock|ice|gas].",
            "A year on it lasts # months.",
            "A probe reached it in 19#.",
            "Its diameter is # times that of the moon.",
            "Its orbit is nearly a circle.",
        ],
    },
    Subject {
        name: "a garden plant",
        sentences: &[
            "The plant grows to a height of # centimetres.",
            "It is sown in [March|April|September], # centimetres deep.",
            "The leaves are [oval|narrow|toothed], and the flowers are [white|blue|yellow].",
            "It needs # litres of water a week.",
            "The distance between rows is # centimetres.",
            "Seeds ripen after # weeks.",
            "It grows in [sandy|loamy|chalky] soil.",
            "The root is cut in autumn and stored.",
        ],
    },
    Subject {
        name: "a clock",
        sentences: &[
            "The clock has # wheels and a spring.",
            "The pendulum swings # times a minute.",
            "The hands are made of [brass|steel].",
            "It is wound every # days.",
            "The dial is # centimetres across.",
            "A lever releases the wheel at each swing.",
            "Oil is applied to # points.",
            "The case is made of [oak|walnut|pine].",
        ],
    },
    Subject {
        name: "a list of goods",
        sentences: &[
            "The list contains # items.",
            "There are # boxes of [nails|paper|soap] and # sacks of [flour|sand|rice].",
            "Each box weighs # kilograms.",
            "The price is # for each dozen.",
            "Goods are delivered on [Monday|Thursday].",
            "Item # is stored in row #.",
            "The van carries # boxes at a time.",
            "The receipt is in the folder.",
        ],
    },
    Subject {
        name: "the rules of a board game",
        sentences: &[
            "The game is played by # players.",
            "Each player receives # cards and # pieces.",
            "The board has # squares in [two|three] colours.",
            "A player moves # squares at a time.",
            "A piece on the last square is taken off the board.",
            "The round ends after # moves.",
            "A game takes about # minutes.",
            "The player with the most points begins the next round.",
        ],
    },
    Subject {
        name: "a cloth",
        sentences: &[
            "The cloth is woven from [wool|linen|cotton].",
            "It has # threads to the centimetre.",
            "The loom is # metres wide.",
            "Dyes come from [roots|bark|minerals].",
            "The piece is # metres long and weighs # grams.",
            "It is washed at # degrees.",
            "The pattern repeats every # centimetres.",
            "The edge is folded and sewn.",
        ],
    },
];

/// Factual questions with their answers.
const QUESTIONS: [(&str, &str); 14] = [
    ("What time does the shop open?", "The shop opens at [eight|nine|ten] and closes at [five|six]."),
    ("How far is it to the station?", "It is about # minutes on foot, or # stops by tram."),
    ("What is a [saw|hammer|drill] used for?", "It is used to work wood, metal or stone."),
    ("How do I fold the cloth?", "Fold it in the middle, then fold it again from left to right."),
    ("Which bus goes to the market?", "Bus number # goes to the market every # minutes."),
    ("How many chairs are in the room?", "There are # chairs in the room."),
    ("Where are the forms?", "The forms are in the [upper|lower] drawer of the desk."),
    (
        "What is the table made of?",
        "The table is made of [oak|pine|steel], and its top is # centimetres thick.",
    ),
    ("How long does the dough rest?", "The dough rests for # minutes under a cloth."),
    ("When does the ferry leave?", "The ferry leaves at # past [seven|nine|eleven] from pier #."),
    ("How much does a ticket cost?", "A ticket costs # for one zone and # for two."),
    ("What is next to the library?", "Next to the library is the post office, and behind it a car park."),
    ("How is the printer switched on?", "Press the button on the [left|right] and wait # seconds."),
    ("What does the box contain?", "The box contains # screws, # nails and a sheet of instructions."),
];

/// A factual text of six to ten sentences, and the name of its subject.
pub fn fact(rng: &mut Rng) -> (String, &'static str) {
    let subject = &SUBJECTS[rng.below(SUBJECTS.len())];
    let n = 6 + rng.below(5);
    let mut text = String::new();
    let start = rng.below(subject.sentences.len());
    for i in 0..n {
        let at = if i < 5 { start + i } else { rng.below(subject.sentences.len()) };
        let template = subject.sentences[at % subject.sentences.len()];
        push(&mut text, &plain(template, rng));
    }
    (text, subject.name)
}

/// A factual question and its answer.
pub fn question(rng: &mut Rng) -> (String, String) {
    let (q, a) = QUESTIONS[rng.below(QUESTIONS.len())];
    (plain(q, rng), plain(a, rng))
}

/// Fills in options and numbers.
fn plain(template: &str, rng: &mut Rng) -> String {
    let mut out = String::new();
    for c in super::slots::choose(template, rng).chars() {
        match c {
            '#' => out.push_str(&(2 + rng.below(88)).to_string()),
            c => out.push(c),
        }
    }
    capitalise(&out)
}

//! Families of similar emotions: causes, and how body, behaviour and speech show them. Independent of single emotions.

/// A family of emotions with common causes and signs. Sentences are in the slot language of `slots.rs`.
pub struct Family {
    pub name: &'static str,
    /// Events that cause the emotion.
    pub events: &'static [&'static str],
    /// Signs in body, behaviour and speech.
    pub signs: &'static [&'static str],
}

pub const FAMILIES: [Family; 15] = [
    Family {
        name: "joy",
        events: &[
            "Then the good news came: {F} had [won|passed|been chosen].",
            "{F} came in with the {t} and shouted, \"[We did it|It worked]!\"",
            "At last the day {s} had dreamed of was here.",
            "The {t} was even better than {s} had dreamed.",
            "All the friends were there, and there was [music|cake|a game] for everyone.",
            "{F} told a story that made the whole room laugh.",
        ],
        signs: &[
            "{S} laughed out loud and [threw up {p} arms|hugged {F}].",
            "{S} could not keep the {e?}grin from {p} face.",
            "\"This is the best day of the year!\" {s} said.",
            "{S} skipped [down the steps|across the room] like a child.",
            "{P} {e?}eyes sparkled, and {p} {e?}feet wanted to dance.",
            "{S} told everyone about it with a wide {e?}grin.",
            "{S} swung {F} around until both of them laughed.",
        ],
    },
    Family {
        name: "love",
        events: &[
            "{F} had fallen asleep against {p} shoulder.",
            "{F} came home after [a long year|many weeks] and ran into {p} arms.",
            "{S} had made {F}'s [favourite soup|warm socks] with {p} own hands.",
            "The little one reached out for {o} with both arms.",
            "{F} was ill, and {s} stayed beside {fo} [all night|the whole day].",
        ],
        signs: &[
            "{S} held {F} in {p} {e?}arms and rocked {fo}.",
            "{S} tucked the blanket around {F} with {e?}care.",
            "\"My darling,\" {s} whispered, \"I am here.\"",
            "{S} looked at {F} with soft {e?}eyes.",
            "{P} {e?}heart grew wide at the sight of {F}.",
            "{S} would have given {F} [the moon|all {s} had].",
            "{S} took {F}'s hand and did not let go.",
        ],
    },
    Family {
        name: "calm",
        events: &[
            "All the work was done, and nobody needed {o}.",
            "The others had gone, and the house was quiet at last.",
            "{S} had [an hour|the whole evening] and nothing to do in it.",
            "{S} sat down with a cup of tea and [a book|no plan].",
            "Snow fell softly, and every sound was far away.",
        ],
        signs: &[
            "{S} breathed slowly and evenly.",
            "{S} sat without moving and watched [the clouds|the light] drift.",
            "\"There is plenty of time,\" {s} said softly.",
            "{P} {e?}face was smooth and {p} {e?}hands lay open.",
            "{S} leaned back and closed {p} {e?}eyes.",
            "{S} drank {p} tea in small, slow sips.",
            "{P} {e?}thoughts drifted by like boats on a slow river.",
        ],
    },
    Family {
        name: "pride",
        events: &[
            "{S} had won first prize for the {t}.",
            "The teacher read out {p} name before the whole [school|town].",
            "After a year of work it was finished, and it was good.",
            "{S} had done it [all alone|before anyone else].",
        ],
        signs: &[
            "{S} lifted {p} {e?}chin and put back {p} shoulders.",
            "{P} {e?}chest swelled as they praised {o}.",
            "\"Look what I have done,\" {s} said to {F}.",
            "{S} showed {F} the prize [twice|three times].",
            "{S} walked through the crowd like a king.",
            "{S} shook every hand and let them praise {o}.",
        ],
    },
    Family {
        name: "hope",
        events: &[
            "The doctor said there was a good chance.",
            "A letter had come: the answer would be here [soon|on Monday].",
            "For the first time in weeks there was a sign of change.",
            "{F} had promised to try once more.",
        ],
        signs: &[
            "{S} looked out for the first green leaf.",
            "\"It could still come right,\" {s} told {F}.",
            "{S} began to make plans for [the summer|next year].",
            "{P} {e?}eyes turned to the window again and again, waiting for good news.",
            "{S} wished with all {p} {e?}heart and waited.",
            "{S} marked the day in the calendar with a star.",
        ],
    },
    Family {
        name: "gratitude",
        events: &[
            "{F} had found the {t} and brought it back.",
            "{F} had worked all night so that {s} could rest.",
            "A stranger paid for the {t} and [would take nothing|walked on].",
            "In the hard weeks {F} had come every day with food.",
        ],
        signs: &[
            "{S} took {F}'s hand in both of {p} own.",
            "\"How can I ever repay you?\" {s} asked.",
            "{S} thought of all the help {s} had been given.",
            "{P} {e?}eyes were wet as {s} hugged {F} for {fp} help.",
            "{S} baked {F} a cake to repay {fo}.",
            "{S} bowed {p} {e?}head to the helper.",
        ],
    },
    Family {
        name: "surprise",
        events: &[
            "Suddenly the {t} was gone, where it had been a second before.",
            "There stood {F}, whom nobody had seen for [ten|twenty] years.",
            "{S} opened the box, and inside was [a live bird|a heap of gold coins].",
            "All at once the lights went on and twenty people jumped up.",
            "The {t} began to speak.",
        ],
        signs: &[
            "{S} blinked and stepped back.",
            "\"What? How is that possible?\" {s} asked.",
            "{S} stared with round {e?}eyes.",
            "{S} dropped the {d} and did not notice.",
            "\"I never expected this!\" {s} said.",
            "{S} turned round to see if others had seen it too.",
            "{P} {e?}hand flew to {p} mouth.",
        ],
    },
    Family {
        name: "sadness",
        events: &[
            "{F} had [died in the spring|moved away for ever].",
            "The {t} was all that was left of {p} mother.",
            "The old dog was gone, and its basket stood empty.",
            "They had said goodbye at the station, and the train was gone.",
            "No one had remembered {p} birthday.",
        ],
        signs: &[
            "{S} wept into the pillow.",
            "{P} {e?}eyes filled with tears.",
            "{S} stared at the wall and ate nothing.",
            "\"It will never be the same,\" {s} said in a low voice.",
            "There was a lump in {p} {e?}throat that would not go.",
            "{S} let {p} {e?}head sink and [wept|was silent].",
            "{P} {e?}heart was as heavy as a stone.",
        ],
    },
    Family {
        name: "anger",
        events: &[
            "{F} had lied to {o}, and not for the first time.",
            "{F} had broken the {t} and only laughed.",
            "They had cheated {o} out of the money.",
            "Someone had pushed in front of {o} and called {o} a fool.",
            "For the third time {F} had taken {p} things without asking.",
        ],
        signs: &[
            "{S} clenched {p} {e?}fists until the knuckles were white.",
            "\"That is enough!\" {s} yelled.",
            "{S} stamped {p} foot and [swore|yelled].",
            "{P} {e?}teeth ground together, and heat rose in {p} neck.",
            "{S} threw the {d} down and yelled at {F}.",
            "{S} tore the paper into pieces.",
            "{S} marched out and banged the gate.",
        ],
    },
    Family {
        name: "envy",
        events: &[
            "{F} had got the {t} that should have been {p} own.",
            "Everyone admired {F}, and no one looked at {o}.",
            "{F} had a better one, newer and much bigger.",
            "{S} saw {F} arm in arm with somebody else.",
        ],
        signs: &[
            "{S} could not stop looking at {F} and comparing.",
            "\"Why {F} and not me?\" {s} said between {p} teeth.",
            "{S} smiled at {F} with a sour {e?}mouth.",
            "{S} wished that {F} would lose it all.",
            "Something green and bitter sat in {p} {e?}throat.",
            "{S} spoke badly of {F} behind {fp} back.",
        ],
    },
    Family {
        name: "disgust",
        events: &[
            "Maggots crawled over the meat on the plate.",
            "Somebody had been sick on the {t}.",
            "There was a [dead rat|hairy lump] under the {d}.",
            "The milk came out of the jug in green lumps.",
        ],
        signs: &[
            "{S} gagged and turned {p} {e?}head away.",
            "\"Yuck, how filthy,\" {s} said.",
            "{S} held the thing away with two fingers.",
            "{S} pressed a cloth to {p} {e?}nose because of the stench.",
            "A sour taste rose in {p} {e?}throat.",
            "{S} scrubbed and scrubbed, but the stench stayed.",
        ],
    },
    Family {
        name: "fear",
        events: &[
            "Heavy steps came closer in the dark.",
            "The lock turned by itself, and no one else had a key.",
            "A growl came from behind the {t}.",
            "The ice cracked under {p} feet.",
            "In a moment {s} would have to go out there, before them all.",
            "The voice on the phone said, \"I know where you live.\"",
        ],
        signs: &[
            "{P} {e?}knees trembled and would not hold {o}.",
            "{S} pressed {x} against the wall and listened.",
            "Cold sweat ran down {p} {e?}back.",
            "\"Did you hear that?\" {s} whispered in a thin voice.",
            "{S} trembled and clutched the {d}.",
            "{P} {e?}mouth was dry, and {p} {e?}hair stood on end.",
            "{S} checked the lock and checked it again.",
        ],
    },
    Family {
        name: "desperation",
        events: &[
            "The money was gone, and tomorrow they would lose the house.",
            "The child was missing, and night was falling.",
            "It was the very last chance, and it was slipping away.",
            "{S} had asked everyone, and everyone had said no.",
        ],
        signs: &[
            "{S} pulled at {p} {e?}hair and cried, \"There must be a way!\"",
            "\"Help me, I beg you!\" {s} cried.",
            "{S} caught {F} by the sleeve and would not let go.",
            "{S} tried the same thing again and again, without sense.",
            "{S} wrung {p} {e?}hands and could not give up.",
            "{S} had nothing left to lose.",
        ],
    },
    Family {
        name: "guilt",
        events: &[
            "{S} had broken the {t} and let {F} take the blame.",
            "{S} had forgotten {F} on the most important day.",
            "{S} had told a lie, and now everybody knew.",
            "{S} had said the wrong thing in front of all the guests.",
            "{S} had taken money from {F}'s purse.",
        ],
        signs: &[
            "{S} looked at the floor and could not look up.",
            "\"I should not have done that,\" {s} said.",
            "{S} said sorry, and then sorry again.",
            "{P} {e?}ears burned at the memory of it.",
            "{S} turned {p} {e?}face away from {F}.",
            "{S} thought of what {s} had done and winced.",
            "{S} wished {s} could undo it.",
        ],
    },
    Family {
        name: "weariness",
        events: &[
            "It was the same as yesterday, and the day before.",
            "The speaker had been talking for two hours.",
            "There were still four hours to go.",
            "{S} had done the same small task a hundred times since [dawn|morning].",
        ],
        signs: &[
            "{S} yawned with an open {e?}mouth.",
            "{S} propped {p} {e?}chin on {p} hand.",
            "\"How much longer?\" {s} mumbled.",
            "{P} {e?}gaze slid over the {t} and away.",
            "{S} let {p} {e?}arms hang and dragged {p} feet.",
            "{S} slumped lower and lower in the seat.",
        ],
    },
];

/// The family with that name; an unknown name is an error in `emotions.rs`.
pub fn family(name: &str) -> &'static Family {
    FAMILIES.iter().find(|f| f.name == name).expect("every emotion names a family of the list")
}

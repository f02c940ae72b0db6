//! Names of the people in the corpus. Knows nothing of what happens to them.

use super::rng::Rng;
use super::slots::Person;

const WOMEN: [&str; 30] = [
    "Marta", "Anna", "Lena", "Ruth", "Clara", "Nora", "Emma", "Julia", "Sofia", "Greta", "Ines", "Hanna", "Maria",
    "Lucy", "Alice", "Eva", "Rosa", "Helen", "Grace", "Vera", "Amina", "Mei", "Priya", "Zoe", "Ada", // trained
    "Ingrid", "Leila", "Dora", "Yuki", "Paula", // held out
];
const MEN: [&str; 30] = [
    "Tom", "Paul", "Jonas", "David", "Ben", "Karl", "Omar", "Peter", "Max", "Leo", "Samuel", "Adam", "Felix", "Hugo",
    "Ivan", "Luis", "Noah", "Oscar", "Ravi", "Simon", "Theo", "Victor", "Walter", "George", "Ali", // trained
    "Magnus", "Kofi", "Edgar", "Hiro", "Bruno", // held out
];
/// How many names at the end of each list are kept out of training.
const HELD_OUT: usize = 5;

/// One person, from the names of training or from those held out.
pub fn person(held_out: bool, rng: &mut Rng) -> Person {
    let female = rng.chance(0.5);
    let names = if female { &WOMEN } else { &MEN };
    let (trained, kept) = names.split_at(names.len() - HELD_OUT);
    Person { name: rng.pick(if held_out { kept } else { trained }), female }
}

/// Two people of different names.
pub fn two(held_out: bool, rng: &mut Rng) -> (Person, Person) {
    let a = person(held_out, rng);
    loop {
        let b = person(held_out, rng);
        if a.name != b.name {
            return (a, b);
        }
    }
}

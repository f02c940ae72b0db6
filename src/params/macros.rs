//! `params!` and `words!`: declare a struct or an enum that is the single definition of a table or a value of the
//! file.

/// Declares the struct that a table of the experiment file is parsed into. Everything else is derived from it: how the
/// table is read, reporting all problems at once; its tables in `docs/experiment.md`; its JSON Schema; and, because
/// keys are digests of the struct, its part of the pre-image, in the order of the fields.
///
/// ```text
/// params! {
///     /// How well a linear classifier tells the emotions apart.       what the table is for
///     #[check(folds_are_few)]                                         fn(&Reader, &Parts<Probe>) -> Read<()>: rules across keys
///     pub struct Probe {
///         /// Parts that the topics are dealt into.                    the key's meaning
///         pub folds: usize = 5, 2..=100;                               type, default in TOML, bounds
///         /// Of the ridge.
///         pub penalty: f64 = 0.01, above 0.0..=1000.0;
///         /// At most so many padded tokens.
///         #[unset("as the device wants it")]                           no value unless one is written
///         pub batch_tokens: Option<usize>, 1..;
///         /// Who is asked.                                            without any of these: the key is required
///         #[with(url)]                                                 fn(&Reader, &str) -> Read<String>, reads it
///         pub url: String;
///     }
/// }
/// ```
///
/// Further: `#[ships("in words", "in TOML")]`, a long default; `#[of(Type::...)]`, a type other than the field's own;
/// `#[only(Case::...)]`, a key that exists only in this case; `#[when(Case::..., default = 1, about = "...")]`,
/// another default or meaning in this case (on the struct: another meaning). `#[of(Type::Inline(T::TABLE))]` with
/// `#[with(inline)]`: the keys of another struct, in this table. `#[of(Type::NONE)]`: a field that is not a key. A
/// field that is excluded from pre-images has `#[serde(skip)]`.
macro_rules! params {
    (
        $(#[doc = $about:literal])*
        $(#[when($case:expr, $case_about:literal)])*
        $(#[check($check:path)])?
        pub struct $Name:ident {
            $(
                $(#[doc = $meaning:literal])*
                $(#[unset($unset:literal)])?
                $(#[ships($shown:literal, $ships:expr)])?
                $(#[of($of:expr)])?
                $(#[with($with:path)])?
                $(#[only($only:expr)])?
                $(#[when(
                    $when:expr
                    $(, default = $when_default:tt)?
                    $(, unset = $when_unset:literal)?
                    $(, of = $when_of:expr)?
                    $(, about = $when_about:literal)?
                )])*
                $(#[serde($($serde:tt)*)])*
                pub $key:ident: $T:ty
                    $(= $default:tt)?
                    $(, $(above $above:literal)? $($min:literal)? $(..= $max:literal)? $(..)?)?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct $Name {
            $(
                $(#[doc = $meaning])*
                $(#[serde($($serde)*)])*
                pub $key: $T,
            )*
        }

        const _: () = {
            pub struct Parts {
                $(pub $key: $crate::params::Read<$T>,)*
            }

            static TABLE: $crate::params::Table = $crate::params::Table {
                about: concat!($($about),*),
                abouts: &[$(($case, $case_about)),*],
                keys: &[$(
                    $crate::params::Key {
                        name: $crate::params::bare(stringify!($key)),
                        of: $crate::params::macros::or!([$($of)?] <$T as $crate::params::Value>::OF)
                            $($(.above($above as f64))? $(.at_least($min as f64))? $(.at_most($max as f64))?)?,
                        default: $crate::params::macros::default!([$($default)?] [$($unset)?] [$($shown, $ships)?]),
                        about: concat!($($meaning),*),
                        only: $crate::params::macros::or!([$(Some($only))?] None),
                        when: &[$(
                            $crate::params::When {
                                case: $when,
                                default: $crate::params::macros::or!([
                                    $(Some($crate::params::Default::Is(stringify!($when_default))))?
                                    $(Some($crate::params::Default::Said($when_unset)))?
                                ] None),
                                of: $crate::params::macros::or!([$(Some($when_of))?] None),
                                about: $crate::params::macros::or!([$(Some($when_about))?] None),
                            }
                        ),*],
                    }
                ),*],
            };

            impl $crate::params::Params for $Name {
                type Parts = Parts;
                const TABLE: &'static $crate::params::Table = &TABLE;

                fn parts(reader: &$crate::params::Reader<'_>) -> Parts {
                    Parts {
                        $($key: $crate::params::macros::or!([$($with)?] $crate::params::Reader::get)(
                            reader,
                            $crate::params::bare(stringify!($key)),
                        ),)*
                    }
                }

                $(fn check(reader: &$crate::params::Reader<'_>, parts: &Parts) -> $crate::params::Read<()> {
                    $check(reader, parts)
                })?

                fn whole(parts: Parts) -> $crate::params::Read<$Name> {
                    let Parts { $($key),* } = parts;
                    Ok($Name { $($key: $key?),* })
                }
            }

            impl $crate::params::Value for $Name {
                const OF: $crate::params::Type = $crate::params::Type::Table(&TABLE);

                fn parse(
                    reader: &$crate::params::Reader<'_>,
                    key: &$crate::params::Key,
                    node: &std::rc::Rc<$crate::params::Node>,
                ) -> $crate::params::Read<$Name> {
                    <$Name as $crate::params::Params>::read(&reader.table(key.name, node.clone(), &TABLE)?)
                }
            }
        };
    };
}

/// The first argument if given; otherwise the second.
macro_rules! or {
    ([$given:expr] $otherwise:expr) => {
        $given
    };
    ([] $otherwise:expr) => {
        $otherwise
    };
}

/// The default of a key.
macro_rules! default {
    ([] [] []) => {
        $crate::params::Default::Required
    };
    ([$default:tt] [] []) => {
        $crate::params::Default::Is(stringify!($default))
    };
    ([] [$unset:literal] []) => {
        $crate::params::Default::Said($unset)
    };
    ([] [] [$shown:literal, $ships:expr]) => {
        $crate::params::Default::Ships($shown, $ships)
    };
}

/// Declares an enum whose values are written as words in the file, in keys and in `run.json`; or, for an enum declared
/// elsewhere, those words.
macro_rules! words {
    (
        $(#[doc = $about:literal])*
        pub enum $Name:ident {
            $($(#[doc = $meaning:literal])* $Word:ident = $word:literal,)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
        pub enum $Name {
            $($(#[doc = $meaning])* #[serde(rename = $word)] $Word,)*
        }

        $crate::params::macros::words!($Name { $($Word = $word),* });
    };
    ($Name:ident { $($Word:ident = $word:literal),* }) => {
        impl $crate::params::Words for $Name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $Name::$Word)),*];
        }
    };
}

pub(crate) use {default, or, params, words};

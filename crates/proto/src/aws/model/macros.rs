//! What makes the structures and enumerations of the table.

/// How many bytes `snake` has as AWS spells it.
#[must_use]
pub const fn spelling_len(snake: &str) -> usize {
    let (bytes, mut at, mut len) = (snake.as_bytes(), 0, 0);
    while at < bytes.len() {
        len += if bytes[at] == b'_' { 0 } else { 1 };
        at += 1;
    }
    len
}

/// A field's name as AWS spells it: `key_id` is `KeyId`, and only `aws` is an abbreviation.
#[must_use]
pub const fn spelling<const LEN: usize>(snake: &str) -> [u8; LEN] {
    let bytes = snake.as_bytes();
    let aws = matches!(bytes, [b'a', b'w', b's', b'_', ..]);
    let (mut name, mut at, mut len, mut upper) = ([0; LEN], 0, 0, true);
    while at < bytes.len() {
        if bytes[at] == b'_' {
            upper = true;
        } else {
            upper = upper || (aws && at < 3);
            name[len] = if upper { bytes[at].to_ascii_uppercase() } else { bytes[at] };
            len += 1;
            upper = false;
        }
        at += 1;
    }
    name
}

/// The name of a field as AWS spells it, at compile time.
macro_rules! spelled {
    ($field:ident) => {
        const {
            const BYTES: &[u8] = &$crate::aws::model::macros::spelling::<
                { $crate::aws::model::macros::spelling_len(stringify!($field)) },
            >(stringify!($field));
            match std::str::from_utf8(BYTES) {
                Ok(name) => name,
                Err(_) => panic!("a field's name is ASCII"),
            }
        }
    };
}
pub(super) use spelled;

/// Makes a structure of the table.
macro_rules! structure {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $shape:ty),* $(,)? }) => {
        $(#[$doc])*
        #[allow(missing_docs, reason = "AWS's documentation describes the members")]
        pub struct $name { $(pub $field: <$shape as $crate::aws::model::shape::Member>::Value,)* }

        /// Says its name alone: it may hold secrets.
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        #[allow(irrefutable_let_patterns, unused_imports, unused_mut, unused_variables, reason = "some structures are empty")]
        impl $crate::aws::model::shape::Shape for $name {
            type Value = Self;
            const SINGLE: bool = false;

            fn read(
                source: &mut $crate::aws::model::shape::Source<'_>,
                at: &$crate::aws::model::shape::Path<'_>,
            ) -> Result<Option<Self>, $crate::aws::Exception> {
                use $crate::aws::model::{macros::spelled, shape::{Member, Path, Read}};
                $(let mut $field = Read::<<$shape as Member>::Shape>::Absent;)*
                source.structure(|source, name| {
                    $(if name == spelled!($field) {
                        $field.fill(source, &Path::Member(at, spelled!($field)))?;
                        return Ok(true);
                    })*
                    Ok(false)
                })?;
                $(let $field = <$shape as Member>::take($field, source, &Path::Member(at, spelled!($field)));)*
                let ($(Some($field),)*) = ($($field,)*) else { return Ok(None) };
                Ok(Some(Self { $($field,)* }))
            }

            fn write(value: &Self, writer: &mut $crate::aws::json::Writer) {
                use $crate::aws::model::{macros::spelled, shape::Member};
                writer.open(b'{');
                $(<$shape as Member>::write(&value.$field, spelled!($field), writer);)*
                writer.close(b'}');
            }

            fn describe(
                field: $crate::aws::model::Field,
                fields: &mut Vec<$crate::aws::model::Field>,
            ) {
                use $crate::aws::model::{macros::spelled, shape::{Member, Shape}};
                let whole = field.path.clone();
                if !whole.is_empty() {
                    fields.push($crate::aws::model::Field { kind: "structure", ..field });
                }
                $(<<$shape as Member>::Shape as Shape>::describe(
                    $crate::aws::model::Field::member(&whole, spelled!($field), <$shape as Member>::REQUIRED),
                    fields,
                );)*
            }
        }
    };
}
pub(super) use structure;

/// Makes an enumeration; its variants are spelled as AWS spells them.
macro_rules! enumeration {
    ($(#[$doc:meta])* $name:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, non_camel_case_types, reason = "spelled and documented by AWS")]
        pub enum $name { $($variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As AWS spells it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }

            /// The one of this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl $crate::aws::model::shape::Shape for $name {
            type Value = Self;

            fn read(
                source: &mut $crate::aws::model::shape::Source<'_>,
                at: &$crate::aws::model::shape::Path<'_>,
            ) -> Result<Option<Self>, $crate::aws::Exception> {
                source.one_of(Self::parse, &[$(stringify!($variant)),+], at)
            }

            fn write(value: &Self, writer: &mut $crate::aws::json::Writer) {
                writer.text(value.name());
            }

            fn rules() -> Vec<String> {
                vec![$crate::aws::model::shape::one_of(&[$(stringify!($variant)),+])]
            }

            fn describe(
                field: $crate::aws::model::Field,
                fields: &mut Vec<$crate::aws::model::Field>,
            ) {
                let values = &[$(stringify!($variant)),+];
                fields.push($crate::aws::model::Field { kind: "enum", values, ..field });
            }
        }
    };
}
pub(super) use enumeration;

//! Rows by the names of their columns.

/// Reads a struct from rows: each field from the column of its name.
macro_rules! columns {
    ($name:ident $fields:tt from $($(#[$if:meta])? $row:ty),*) => {
        $($(#[$if])? crate::store::columns::columns!(@ $name $fields $row);)*
    };
    (@ $name:ident { $($field:ident),* $(,)? } $row:ty) => {
        impl sqlx::FromRow<'_, $row> for $name {
            fn from_row(row: &$row) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: sqlx::Row::try_get(row, stringify!($field))?),* })
            }
        }
    };
}
pub(super) use columns;

//! The tables that both databases have, by what their columns hold: what is moved from one to the other.

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    /// 0 or 1 in SQLite.
    Flag,
    Text,
    Bytes,
}

/// A column of a table that is moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// A table that is moved row by row. Its name and those of its columns are the same in both databases.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The key comes first.
    pub(super) columns: &'static [Column],
    /// How many of the columns are the key.
    key: usize,
    /// Rows that are held in memory at once.
    pub(super) page: usize,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The values of a row, in the order of the columns.
pub(super) type Row = Vec<Value>;

impl Table {
    /// The names of all columns.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.columns.iter().map(|column| column.name).collect()
    }

    /// The names of the key's columns.
    pub(super) fn key(&self) -> Vec<&'static str> {
        self.key_columns().iter().map(|column| column.name).collect()
    }

    /// The key's columns.
    pub(super) fn key_columns(&self) -> &'static [Column] {
        self.columns.get(..self.key).unwrap_or(self.columns)
    }

    /// The key of a row.
    pub(super) fn key_of<'r>(&self, row: &'r Row) -> &'r [Value] {
        row.get(..self.key).unwrap_or(row)
    }
}

const fn number(name: &'static str) -> Column {
    Column { name, kind: Kind::Number }
}

const fn flag(name: &'static str) -> Column {
    Column { name, kind: Kind::Flag }
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text }
}

const fn bytes(name: &'static str) -> Column {
    Column { name, kind: Kind::Bytes }
}

/// A table with its key in front.
const fn table(name: &'static str, key: usize, page: usize, columns: &'static [Column]) -> Table {
    Table { name, columns, key, page }
}

/// Everything that is moved. What else there is each database makes for itself: which database it is, its schema, its probe,
/// and what is found faster with than without.
pub(super) const TABLES: &[Table] = &[
    table(
        "audit_event",
        1,
        1000,
        &[
            number("seq"),
            number("at_micros"),
            number("high_micros"),
            number("kind"),
            number("outcome"),
            number("identity_key"),
            bytes("serial"),
            bytes("leaf_hash"),
            bytes("body"),
        ],
    ),
    table("authority_journal", 1, 1, &[number("id"), number("version"), text("body")]),
    // Documents, which may be large.
    table("authority_journal_history", 1, 10, &[number("version"), text("body")]),
    table("authority_fence", 1, 1, &[number("id"), number("version"), text("body")]),
    table("sealed_key", 1, 100, &[text("id"), bytes("sealed"), number("unused_since")]),
    table("removed_key", 1, 1000, &[text("id"), number("at")]),
    table(
        "holder",
        2,
        1000,
        &[
            text("spiffe_id"),
            text("instance"),
            text("pod"),
            text("node"),
            text("cluster"),
            text("serial"),
            text("authority"),
            number("not_after"),
            number("sequence"),
            flag("acknowledges"),
            number("seen_at"),
            number("refused_sequence"),
            text("refused"),
            number("first_bundle"),
            text("former"),
            number("gone_at"),
        ],
    ),
    table(
        "pod_certificate",
        1,
        100,
        &[
            text("uid"),
            text("cluster"),
            text("claimant"),
            number("claimed_at"),
            number("claimed_until"),
            text("chain"),
            number("done_at"),
        ],
    ),
    table("signed_leaf", 1, 1000, &[bytes("serial"), number("not_after"), bytes("der")]),
    table("authority_usage", 1, 1000, &[text("authority"), number("last_not_after")]),
    table(
        "publication",
        1,
        1000,
        &[text("publisher"), number("wanted"), number("in_place"), text("problem"), number("heard_at")],
    ),
    table("publication_reached", 2, 1000, &[text("publisher"), number("sequence"), number("at")]),
    table("holder_raise", 2, 1000, &[number("before"), number("after"), number("at")]),
    table("record_tile", 2, 100, &[number("level"), number("number"), bytes("hashes")]),
    table("retention_cursor", 1, 10, &[number("class"), number("below")]),
    table("retention_put_off", 1, 1000, &[number("seq"), number("class"), number("due_micros")]),
    table("longest_life", 1, 1, &[number("id"), number("seconds"), number("until_micros")]),
    table("record_checkpoint", 1, 1, &[number("id"), number("size"), text("note"), text("keys"), bytes("edge")]),
    table("record_note", 1, 100, &[text("name"), text("note")]),
];

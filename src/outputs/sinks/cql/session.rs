//! Connections to a cluster, and the statement that writes rows.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::ExecutionError;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use tokio::time::timeout;

use super::config::{Level, Settings};
use super::failure::{Failure, of_prepare, of_request, of_session, of_statement};
use super::rows::{MAX_ROWS, Request, Row};
use super::table::{self, Column, Shape};

/// The columns of a table.
const COLUMNS: &str = "SELECT column_name, kind, type FROM system_schema.columns \
                       WHERE keyspace_name = ? AND table_name = ?";

/// A connection to a cluster, with statements that write rows.
pub struct Cluster {
    session: Session,
    insert: PreparedStatement,
    /// Statements for several rows, by number of rows. Each is made when it is first needed.
    batches: [OnceLock<Batch>; MAX_ROWS + 1],
    /// Whether a new connection to the cluster is needed.
    broken: AtomicBool,
    /// How rows are written to the table.
    pub shape: Shape,
}

impl Cluster {
    /// Connects, creates the table if it is missing and `create` is set, and reads its columns.
    ///
    /// # Errors
    ///
    /// What failed, in words for the log.
    pub async fn connect(settings: &Settings) -> Result<Self, String> {
        let connected = timeout(settings.timeout, async {
            let session = open(settings).await?;
            let (insert, shape) = prepare(&session, settings).await?;
            Ok(Cluster {
                session,
                insert,
                batches: [const { OnceLock::new() }; MAX_ROWS + 1],
                broken: AtomicBool::new(false),
                shape,
            })
        });
        match connected.await {
            Ok(connected) => connected,
            Err(_) => Err(format!("no connection within {:?}", settings.timeout)),
        }
    }

    /// Whether the table has the same shape as before.
    ///
    /// # Errors
    ///
    /// The problem with the table or the connection.
    pub async fn check(&self, settings: &Settings) -> Result<bool, String> {
        let (_, shape) = prepare(&self.session, settings).await?;
        Ok(shape == self.shape)
    }

    /// Writes rows of one partition.
    pub async fn write(&self, request: &Request) -> Result<(), Failure> {
        let rows: Vec<Row<'_>> = request.rows().collect();
        let written: Result<_, ExecutionError> = match rows[..] {
            [row] => self.session.execute_unpaged(&self.insert, row).await,
            _ => self.session.batch(self.batch(rows.len()), rows).await,
        };
        written.map(drop).map_err(|problem| of_request(&problem))
    }

    fn batch(&self, rows: usize) -> &Batch {
        self.batches[rows.min(MAX_ROWS)].get_or_init(|| {
            let statement = BatchStatement::PreparedStatement(self.insert.clone());
            let statements = vec![statement; rows];
            let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
            batch.set_is_idempotent(true);
            batch
        })
    }

    /// Marks the connection as broken: the next batch needs a new one.
    pub fn note_broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Whether a new connection is needed.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

async fn open(settings: &Settings) -> Result<Session, String> {
    let profile = ExecutionProfile::builder()
        .consistency(consistency(settings.consistency))
        .request_timeout(Some(settings.timeout))
        .build();
    let hosts = settings.hosts.iter().map(ToString::to_string);
    let mut builder = SessionBuilder::new()
        .known_nodes(hosts)
        .default_execution_profile_handle(profile.into_handle())
        .keyspaces_to_fetch([settings.table.keyspace.as_str()])
        .pool_size(PoolSize::default())
        .driver_config_reporting(false);
    if let Some(datacenter) = &settings.datacenter {
        builder = builder.prefer_datacenter(datacenter.clone());
    }
    if let Some(login) = &settings.login {
        let password = login.password("login.password_file").await;
        let password = password.map_err(|problem| problem.to_string())?;
        builder = builder.user(&login.username, password);
    }
    #[cfg(feature = "cql-tls")]
    if let Some(tls) = &settings.tls {
        use crate::http_client::trust;

        let ca = tls.ca_file.as_ref().map(|file| file.pem.as_slice());
        let config = trust::config(tls.insecure_skip_verify, ca, &tls.client)?;
        builder = builder.tls_context(Some(std::sync::Arc::new(config)));
    }
    let built = builder.build().await;
    built.map_err(|problem| of_session(&problem))
}

/// Prepares the statement that writes a row, and determines the shape of the table. Creates
/// the table first if it is missing and `create` is set.
async fn prepare(
    session: &Session,
    settings: &Settings,
) -> Result<(PreparedStatement, Shape), String> {
    let name = &settings.table;
    let mut columns = columns(session, settings).await?;
    if columns.is_empty() {
        let Some(create) = settings.create else {
            return Err(format!(
                "the table {name} does not exist: create it, or set `create = true`"
            ));
        };
        for statement in table::create(name, create) {
            let made = session.query_unpaged(statement, ()).await;
            made.map_err(|problem| format!("cannot create {name}: {}", of_statement(&problem)))?;
        }
        log::info!("created the table {name}");
        columns = self::columns(session, settings).await?;
    }
    let shape = Shape::of(name, &columns)?;
    let insert = session.prepare(shape.insert(name)).await;
    let mut insert = insert.map_err(|problem| of_prepare(&problem))?;
    // Writing a row twice leaves one row.
    insert.set_is_idempotent(true);
    Ok((insert, shape))
}

async fn columns(session: &Session, settings: &Settings) -> Result<Vec<Column>, String> {
    let name = &settings.table;
    let failed =
        |problem: &dyn fmt::Display| format!("the columns of {name} cannot be read: {problem}");
    let found = session.query_unpaged(COLUMNS, (&name.keyspace, &name.table));
    let found = found.await.map_err(|problem| of_statement(&problem))?;
    let rows = found
        .into_rows_result()
        .map_err(|problem| failed(&problem))?;
    let rows = rows.rows::<(String, String, String)>();
    let rows = rows.map_err(|problem| failed(&problem))?;
    rows.map(|row| {
        let (name, kind, data_type) = row.map_err(|problem| failed(&problem))?;
        Ok(Column {
            name,
            kind,
            data_type,
        })
    })
    .collect()
}

fn consistency(level: Level) -> Consistency {
    match level {
        Level::Any => Consistency::Any,
        Level::One => Consistency::One,
        Level::Two => Consistency::Two,
        Level::Three => Consistency::Three,
        Level::Quorum => Consistency::Quorum,
        Level::All => Consistency::All,
        Level::LocalQuorum => Consistency::LocalQuorum,
        Level::EachQuorum => Consistency::EachQuorum,
        Level::LocalOne => Consistency::LocalOne,
    }
}

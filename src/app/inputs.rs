//! The list of inputs with listeners of their own. Inputs over HTTP are in the
//! [table of routes](crate::routes).

use super::StartError;
use super::sinks::Sinks;
use crate::clock::Now;
use crate::config::Config;
use crate::context::Context;
use crate::inputs::Input;
use crate::inputs::operations::{Operations, SocketOptions};
use crate::inputs::poller::Poller;
use crate::inputs::sockets::Sockets;
use crate::net::Balancers;
use crate::net::accept::ListenerLimits;

/// Binds every input. Nothing is served yet.
pub async fn bind(
    config: &Config,
    context: &Context,
    sinks: Sinks,
) -> Result<Vec<Box<dyn Input>>, StartError> {
    // It binds nothing, and a bad target is reported before a port in use.
    let poller = Poller::new(&config.poll_external)?;
    Ok(vec![
        Box::new(sockets(config).await?),
        Box::new(operations(config, context, sinks).await?),
        Box::new(poller),
    ])
}

async fn sockets(config: &Config) -> Result<Sockets, StartError> {
    let limits = ListenerLimits {
        connections: config.exporter.concurrent_requests,
        write_timeout: config.exporter.write_timeout,
        handshake_timeout: config.exporter.tls_handshake_timeout,
        balancers: Balancers::new(&config.receiver.proxy_protocol),
    };
    Ok(Sockets::bind(&config.receiver, limits).await?)
}

async fn operations(
    config: &Config,
    context: &Context,
    sinks: Sinks,
) -> Result<Operations, StartError> {
    let options = SocketOptions {
        user: config.receiver.unix_socket_user.clone(),
        group: config.receiver.unix_socket_group.clone(),
        mode: config.receiver.unix_socket_mode,
        write_timeout: config.exporter.write_timeout,
        handshake_timeout: config.exporter.tls_handshake_timeout,
        own_metrics: config.exporter.own_metrics,
    };
    let operations = Operations::bind(&config.operations, options).await?;
    let operations = operations.send_events(sinks.events);
    context.journal.attach(operations.sets(), Now::read());
    Ok(match sinks.operations {
        Some(sink) => operations.forward_to(sink),
        None => operations,
    })
}

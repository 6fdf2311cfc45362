//! Containers: what was asked for ([`ContainerSpec`]) and where they stand ([`ContainerState`]).

mod health;
mod log;
mod mounts;
mod ports;
mod resources;
mod spec;
mod state;
mod usage;

pub use health::{HEALTH_LOG, Health, HealthStatus, ProbeResult, RESTART_UNHEALTHY_LABEL};
pub use log::{InvalidLogOption, LogFormat, LogOptions};
pub use mounts::{MountSource, MountSpec, Propagation, ReadyMount};
pub use ports::{InvalidPort, PortKey, PortMapping, PortRequest, Protocol};
pub use resources::{
    DeviceMapping, DeviceRequest, IoThrottle, IoThrottleKind, IoWeight, Resources, Ulimit,
};
pub use spec::{
    AttachFlags, ContainerSpec, EndpointSpec, Healthcheck, LogConfig, NamedAlternatives,
    NamespaceMode, NetworkMode, NetworkSpec, ProcessSpec, SeccompChoice, SecuritySpec,
    default_hostname, is_container_name,
};
pub use state::{
    ContainerState, ExitedState, RestartPolicy, RunningState, StartFailure, StartedWith,
};
pub use usage::{
    BlkioEntry, CgroupStats, ContainerStats, CpuStats, InterfaceCounters, InterfaceStats,
    MemoryStats, NumberedName, PidsStats, ProcessFacts,
};

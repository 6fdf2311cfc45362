//! The flags that say what a container is: those of `docker run` and `docker create`.

use clap::Args;

/// What a container is asked to be.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ContainerFlags {
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list")]
    pub(crate) add_host: Vec<String>,
    /// Add an annotation to the container (passed through to the OCI runtime)
    #[arg(long, value_name = "map")]
    pub(crate) annotation: Vec<String>,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list")]
    pub(crate) attach: Vec<String>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long, value_name = "uint16")]
    pub(crate) blkio_weight: Option<u16>,
    /// Block IO weight (relative device weight)
    #[arg(long, value_name = "list")]
    pub(crate) blkio_weight_device: Vec<String>,
    /// Add Linux capabilities
    #[arg(long, value_name = "list")]
    pub(crate) cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list")]
    pub(crate) cap_drop: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "string")]
    pub(crate) cgroup_parent: Option<String>,
    /// Cgroup namespace to use (host|private)
    #[arg(long, value_name = "string")]
    pub(crate) cgroupns: Option<String>,
    /// Write the container ID to the file
    #[arg(long, value_name = "string")]
    pub(crate) cidfile: Option<String>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    pub(crate) cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Limit CPU real-time period in microseconds
    #[arg(long, value_name = "int")]
    pub(crate) cpu_rt_period: Option<i64>,
    /// Limit CPU real-time runtime in microseconds
    #[arg(long, value_name = "int")]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    pub(crate) cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal")]
    pub(crate) cpus: Option<String>,
    /// CPU count: Windows only, refused
    #[arg(long, value_name = "int")]
    pub(crate) cpu_count: Option<i64>,
    /// CPU percent: Windows only, refused
    #[arg(long, value_name = "int")]
    pub(crate) cpu_percent: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    pub(crate) cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    pub(crate) cpuset_mems: Option<String>,
    /// Add a host device to the container
    #[arg(long, value_name = "list")]
    pub(crate) device: Vec<String>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "list")]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "list")]
    pub(crate) device_read_bps: Vec<String>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "list")]
    pub(crate) device_read_iops: Vec<String>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "list")]
    pub(crate) device_write_bps: Vec<String>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "list")]
    pub(crate) device_write_iops: Vec<String>,
    /// Skip image verification: accepted, images are verified by digest only
    #[arg(long)]
    pub(crate) disable_content_trust: bool,
    /// Set custom DNS servers
    #[arg(long, value_name = "list")]
    pub(crate) dns: Vec<String>,
    /// Set DNS options
    #[arg(long, visible_alias = "dns-opt", value_name = "list")]
    pub(crate) dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "list")]
    pub(crate) dns_search: Vec<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "string")]
    pub(crate) domainname: Option<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string")]
    pub(crate) entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list")]
    pub(crate) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    pub(crate) env_file: Vec<String>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "list")]
    pub(crate) expose: Vec<String>,
    /// GPU devices to add to the container ('all' to pass all GPUs)
    #[arg(long, value_name = "gpu-request")]
    pub(crate) gpus: Vec<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "list")]
    pub(crate) group_add: Vec<String>,
    /// Command to run to check health
    #[arg(long, value_name = "string")]
    pub(crate) health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h)
    #[arg(long, value_name = "duration")]
    pub(crate) health_interval: Option<String>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "int")]
    pub(crate) health_retries: Option<u32>,
    /// Time between running the check during the start period (ms|s|m|h)
    #[arg(long, value_name = "duration")]
    pub(crate) health_start_interval: Option<String>,
    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)
    #[arg(long, value_name = "duration")]
    pub(crate) health_start_period: Option<String>,
    /// Maximum time to allow one check to run (ms|s|m|h)
    #[arg(long, value_name = "duration")]
    pub(crate) health_timeout: Option<String>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string")]
    pub(crate) hostname: Option<String>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    pub(crate) init: bool,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Maximum IO bandwidth limit for the system drive: Windows only, refused
    #[arg(long, value_name = "bytes")]
    pub(crate) io_maxbandwidth: Option<String>,
    /// Maximum IOps limit for the system drive: Windows only, refused
    #[arg(long, value_name = "uint")]
    pub(crate) io_maxiops: Option<u64>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "string")]
    pub(crate) ip: Option<String>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "string")]
    pub(crate) ip6: Option<String>,
    /// IPC mode to use
    #[arg(long, value_name = "string")]
    pub(crate) ipc: Option<String>,
    /// Container isolation technology: on Linux there is only default
    #[arg(long, value_name = "string")]
    pub(crate) isolation: Option<String>,
    /// Kernel memory limit: without effect on the kernels of today
    #[arg(long, value_name = "bytes")]
    pub(crate) kernel_memory: Option<String>,
    /// Set meta data on a container
    #[arg(short, long, value_name = "list")]
    pub(crate) label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list")]
    pub(crate) label_file: Vec<String>,
    /// Add link to another container
    #[arg(long, value_name = "list")]
    pub(crate) link: Vec<String>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "list")]
    pub(crate) link_local_ip: Vec<String>,
    /// Logging driver for the container
    #[arg(long, value_name = "string")]
    pub(crate) log_driver: Option<String>,
    /// Log driver options
    #[arg(long, value_name = "list")]
    pub(crate) log_opt: Vec<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "string")]
    pub(crate) mac_address: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes")]
    pub(crate) memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes")]
    pub(crate) memory_reservation: Option<String>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Tune container memory swappiness (0 to 100)
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    pub(crate) memory_swappiness: Option<i64>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "mount")]
    pub(crate) mount: Vec<String>,
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    pub(crate) name: Option<String>,
    /// Connect a container to a network
    #[arg(long, visible_alias = "net", value_name = "network")]
    pub(crate) network: Vec<String>,
    /// Add network-scoped alias for the container
    #[arg(long, visible_alias = "net-alias", value_name = "list")]
    pub(crate) network_alias: Vec<String>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    pub(crate) no_healthcheck: bool,
    /// Disable OOM Killer
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    pub(crate) oom_score_adj: Option<i64>,
    /// PID namespace to use
    #[arg(long, value_name = "string")]
    pub(crate) pid: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    pub(crate) platform: Option<String>,
    /// Give extended privileges to this container
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "list")]
    pub(crate) publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// Pull image before running ("always", "missing", "never")
    #[arg(long, value_name = "string", default_value = "missing")]
    pub(crate) pull: String,
    /// Suppress the pull output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string")]
    pub(crate) restart: Option<String>,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Runtime to use for this container
    #[arg(long, value_name = "string")]
    pub(crate) runtime: Option<String>,
    /// Security Options
    #[arg(long, value_name = "list")]
    pub(crate) security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes")]
    pub(crate) shm_size: Option<String>,
    /// Signal to stop the container
    #[arg(long, value_name = "string")]
    pub(crate) stop_signal: Option<String>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    pub(crate) stop_timeout: Option<i64>,
    /// Storage driver options for the container
    #[arg(long, value_name = "list")]
    pub(crate) storage_opt: Vec<String>,
    /// Sysctl options
    #[arg(long, value_name = "map")]
    pub(crate) sysctl: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list")]
    pub(crate) tmpfs: Vec<String>,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Ulimit options
    #[arg(long, value_name = "ulimit")]
    pub(crate) ulimit: Vec<String>,
    /// Bind mount the API's socket, as -v does: refused
    #[arg(long)]
    pub(crate) use_api_socket: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string")]
    pub(crate) user: Option<String>,
    /// User namespace to use
    #[arg(long, value_name = "string")]
    pub(crate) userns: Option<String>,
    /// UTS namespace to use
    #[arg(long, value_name = "string")]
    pub(crate) uts: Option<String>,
    /// Bind mount a volume
    #[arg(short, long, value_name = "list")]
    pub(crate) volume: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "string")]
    pub(crate) volume_driver: Option<String>,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "list")]
    pub(crate) volumes_from: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    pub(crate) workdir: Option<String>,
    /// The image, and the command to run in place of its own
    #[arg(
        value_name = "IMAGE [COMMAND] [ARG...]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) image_and_command: Vec<String>,
}

impl ContainerFlags {
    /// The image's reference.
    pub(crate) fn image(&self) -> &str {
        self.image_and_command.first().map_or("", String::as_str)
    }

    /// The command, empty for the image's own.
    pub(crate) fn command(&self) -> &[String] {
        self.image_and_command.get(1..).unwrap_or(&[])
    }

    /// Whether one of the container's streams (`stdin`, `stdout`, `stderr`) is attached.
    pub(crate) fn attaches(&self, stream: &str) -> bool {
        let named = self.attach.iter().any(|a| a.eq_ignore_ascii_case(stream));
        named
            || if stream == "stdin" {
                self.interactive
            } else {
                self.attach.is_empty()
            }
    }
}

//! The members that the inspectors read: a layout looked up once, in numbers. Those named `…_bit` are the
//! number of a bit from the start of the struct, all others bytes.

use crate::inspect::Untrusted;
use crate::layout::{Layout, NoLayout, Place, identity};
use upprof_memory::Memory;

macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident { $($field:ident = $of:literal . $member:literal),* $(,)? })*) => {
        $($(#[$doc])* #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name { $(pub(crate) $field: u64),* }

        impl $name {
            fn of(layout: &Layout) -> Result<Self, NoLayout> {
                Ok(Self { $($field: number(layout.place($of, $member)?)),* })
            }
        })*
    };
}

/// A bit-field as the number of its first bit.
fn number(place: Place) -> u64 {
    match place {
        Place::Byte(byte) => byte,
        Place::Bits { byte, shift, .. } => byte * 8 + u64::from(shift),
    }
}

structs! {
    /// `ngx_module_t`
    ModuleAt {
        name = "ngx_module_t"."name",
        kind = "ngx_module_t"."type",
    }
    /// `ngx_cycle_t`
    CycleAt {
        pool = "ngx_cycle_t"."pool",
        free_connections = "ngx_cycle_t"."free_connections",
        free_connection_n = "ngx_cycle_t"."free_connection_n",
        modules = "ngx_cycle_t"."modules",
        modules_n = "ngx_cycle_t"."modules_n",
        listening = "ngx_cycle_t"."listening",
        config_dump = "ngx_cycle_t"."config_dump",
        conf_file = "ngx_cycle_t"."conf_file",
        shared_memory = "ngx_cycle_t"."shared_memory",
        connection_n = "ngx_cycle_t"."connection_n",
        connections = "ngx_cycle_t"."connections",
        read_events = "ngx_cycle_t"."read_events",
        write_events = "ngx_cycle_t"."write_events",
    }
    /// `ngx_connection_t`
    ConnectionAt {
        size = "ngx_connection_t"."size",
        data = "ngx_connection_t"."data",
        read = "ngx_connection_t"."read",
        write = "ngx_connection_t"."write",
        fd = "ngx_connection_t"."fd",
        listening = "ngx_connection_t"."listening",
        pool = "ngx_connection_t"."pool",
        addr_text = "ngx_connection_t"."addr_text",
        number = "ngx_connection_t"."number",
        requests = "ngx_connection_t"."requests",
        idle_bit = "ngx_connection_t"."idle",
        reusable_bit = "ngx_connection_t"."reusable",
    }
    /// `ngx_event_t`
    EventAt {
        size = "ngx_event_t"."size",
        accept_bit = "ngx_event_t"."accept",
        timer_set_bit = "ngx_event_t"."timer_set",
        handler = "ngx_event_t"."handler",
        timer = "ngx_event_t"."timer",
    }
    /// `ngx_listening_t`
    ListeningAt {
        size = "ngx_listening_t"."size",
        fd = "ngx_listening_t"."fd",
        addr_text = "ngx_listening_t"."addr_text",
        backlog = "ngx_listening_t"."backlog",
        worker = "ngx_listening_t"."worker",
        reuseport_bit = "ngx_listening_t"."reuseport",
    }
    /// `ngx_http_request_t`
    RequestAt {
        size = "ngx_http_request_t"."size",
        connection = "ngx_http_request_t"."connection",
        upstream = "ngx_http_request_t"."upstream",
        upstream_states = "ngx_http_request_t"."upstream_states",
        pool = "ngx_http_request_t"."pool",
        host = "ngx_http_request_t"."headers_in.host",
        server = "ngx_http_request_t"."headers_in.server",
        status = "ngx_http_request_t"."headers_out.status",
        start_sec = "ngx_http_request_t"."start_sec",
        start_msec = "ngx_http_request_t"."start_msec",
        uri = "ngx_http_request_t"."uri",
        method_name = "ngx_http_request_t"."method_name",
        main = "ngx_http_request_t"."main",
        phase_handler = "ngx_http_request_t"."phase_handler",
        stream = "ngx_http_request_t"."stream",
    }
    /// `ngx_http_upstream_t`
    UpstreamAt {
        peer_connection = "ngx_http_upstream_t"."peer.connection",
        peer_name = "ngx_http_upstream_t"."peer.name",
        state = "ngx_http_upstream_t"."state",
    }
    /// `ngx_http_upstream_state_t`
    UpstreamStateAt {
        size = "ngx_http_upstream_state_t"."size",
        status = "ngx_http_upstream_state_t"."status",
        connect_time = "ngx_http_upstream_state_t"."connect_time",
        header_time = "ngx_http_upstream_state_t"."header_time",
    }
    /// `ngx_http_upstream_main_conf_t` and `ngx_http_upstream_srv_conf_t`
    UpstreamConfAt {
        upstreams = "ngx_http_upstream_main_conf_t"."upstreams",
        srv_conf = "ngx_http_upstream_srv_conf_t"."srv_conf",
        host = "ngx_http_upstream_srv_conf_t"."host",
    }
    /// `ngx_http_core_main_conf_t`
    CoreConfAt {
        phase_engine = "ngx_http_core_main_conf_t"."phase_engine.handlers",
        phases = "ngx_http_core_main_conf_t"."phases",
    }
    /// `ngx_shm_zone_t`
    ZoneAt {
        size = "ngx_shm_zone_t"."size",
        shm = "ngx_shm_zone_t"."shm",
        tag = "ngx_shm_zone_t"."tag",
    }
    /// `ngx_shm_t`
    ShmAt {
        addr = "ngx_shm_t"."addr",
        size = "ngx_shm_t"."size",
        name = "ngx_shm_t"."name",
    }
    /// `ngx_slab_pool_t`
    SlabAt {
        min_size = "ngx_slab_pool_t"."min_size",
        min_shift = "ngx_slab_pool_t"."min_shift",
        stats = "ngx_slab_pool_t"."stats",
        pfree = "ngx_slab_pool_t"."pfree",
        start = "ngx_slab_pool_t"."start",
        end = "ngx_slab_pool_t"."end",
        data = "ngx_slab_pool_t"."data",
        addr = "ngx_slab_pool_t"."addr",
    }
    /// `ngx_pool_t`
    PoolAt {
        end = "ngx_pool_t"."d.end",
        max = "ngx_pool_t"."max",
        current = "ngx_pool_t"."current",
        large = "ngx_pool_t"."large",
    }
}

/// Where things are in one build of nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Structs {
    pub(crate) version: u64,
    pub(crate) module: ModuleAt,
    pub(crate) cycle: CycleAt,
    pub(crate) connection: ConnectionAt,
    pub(crate) event: EventAt,
    pub(crate) listening: ListeningAt,
    pub(crate) request: RequestAt,
    pub(crate) upstream: UpstreamAt,
    pub(crate) upstream_state: UpstreamStateAt,
    pub(crate) upstream_conf: UpstreamConfAt,
    pub(crate) core_conf: CoreConfAt,
    pub(crate) zone: ZoneAt,
    pub(crate) shm: ShmAt,
    pub(crate) slab: SlabAt,
    pub(crate) pool: PoolAt,
}

impl Structs {
    /// The layout of the nginx whose core module is at `module`, by what that says of itself.
    pub(crate) fn choose(mem: &dyn Memory, module: u64) -> Result<Self, Untrusted> {
        let identity = identity(mem, module)?;
        let layout = Layout::of_nginx(&identity)?;
        Ok(Self {
            version: identity.version,
            module: ModuleAt::of(&layout)?,
            cycle: CycleAt::of(&layout)?,
            connection: ConnectionAt::of(&layout)?,
            event: EventAt::of(&layout)?,
            listening: ListeningAt::of(&layout)?,
            request: RequestAt::of(&layout)?,
            upstream: UpstreamAt::of(&layout)?,
            upstream_state: UpstreamStateAt::of(&layout)?,
            upstream_conf: UpstreamConfAt::of(&layout)?,
            core_conf: CoreConfAt::of(&layout)?,
            zone: ZoneAt::of(&layout)?,
            shm: ShmAt::of(&layout)?,
            slab: SlabAt::of(&layout)?,
            pool: PoolAt::of(&layout)?,
        })
    }
}

-- Shared by all scripts: store.c prepends the files of this folder to each, in the order of its list.
-- Each uses only those before it. This one holds the names of the keys and the time. KEYS[1]:
-- <prefix>mqtt_config:no, only for the routing of a cluster. ARGV[1]: the prefix of all keys. Every
-- answer is an array that begins with a word: 'OK', or the reason for a rejection.

local PREFIX = ARGV[1]
local BATCH_MAX = 200
local CHANGES_MAX = 20000 -- kept for a node that does not read them
local FENCED_MS = 86400000
local TOMBSTONE_MS = 3600000
local HEARTBEAT_MS_MAX = 600000 -- the maximum of heartbeat_ttl_ms
local CLOCK_SLACK_MS = 1000 -- smaller steps back of the clock are ignored
local DELAY_MS_MAX = 108000000 -- the longest delay of the settings, a day, plus a quarter
local DELAY_MS_UNKNOWN = 750000 -- of an entry without a delay, written by an older node or by hand

local NO = PREFIX .. 'mqtt_config:no'
local USE = PREFIX .. 'mqtt_config:use'
local REGISTER = PREFIX .. 'register:mqtt'
local OWNER = PREFIX .. 'mqtt_fleet:owner'
local META = PREFIX .. 'mqtt_fleet:meta'
local ATTEMPT = PREFIX .. 'mqtt_fleet:attempt'
local IDENTITY = PREFIX .. 'mqtt_fleet:identity'
local RETRY = PREFIX .. 'mqtt_fleet:retry'
local TOMBSTONES = PREFIX .. 'mqtt_fleet:tombstones'
local EPOCH = PREFIX .. 'mqtt_fleet:epoch'
local LEADER = PREFIX .. 'mqtt_fleet:leader'
local GENERATION = PREFIX .. 'mqtt_fleet:generation'
local STANDBY = PREFIX .. 'mqtt_fleet:standby'
local FENCED = PREFIX .. 'mqtt_fleet:fenced'
local BURIED = PREFIX .. 'mqtt_fleet:buried'
local SEQUENCE = PREFIX .. 'mqtt_fleet:sequence'
local RESTORING = PREFIX .. 'mqtt_fleet:restoring'
local UNPLACED = PREFIX .. 'mqtt_fleet:unplaced'
local FLEET = PREFIX .. 'mqtt_fleet:name'
local DEAD = PREFIX .. 'mqtt_dead'
local SETTINGS = PREFIX .. 'mqtt_fleet:settings'
local SINKS = PREFIX .. 'mqtt_fleet:sinks'
local PROFILES = PREFIX .. 'mqtt_fleet:profiles'
local ROUTES = PREFIX .. 'mqtt_fleet:routes'
local RESOURCES = PREFIX .. 'mqtt_fleet:resources'
local AUDIT = PREFIX .. 'mqtt_fleet:audit'
local AUDITED = PREFIX .. 'mqtt_fleet:audited'
local OPERATIONS = PREFIX .. 'mqtt_fleet:operations'
-- A script has at most 200 local variables, those of all common files included: these keys share one.
local LEVELLING = {
    REBALANCE = PREFIX .. 'mqtt_fleet:rebalance',
    DRAINED = PREFIX .. 'mqtt_fleet:drained',
    VANISHED = PREFIX .. 'mqtt_fleet:vanished',
    VANISHED_MS = 3600000,
}

local HISTORY = PREFIX .. 'mqtt_fleet:history'
local EVENTS = {
    LOG = PREFIX .. 'mqtt_fleet:event_log',
    LOG_MAX = 1000000, -- for the scripts that do not know events.kept_max
    CHANNEL = PREFIX .. 'mqtt_fleet:events',
    LISTENING = PREFIX .. 'mqtt_fleet:listening',
    SENT = PREFIX .. 'mqtt_fleet:events_sent',
    BATCH = PREFIX .. 'mqtt_fleet:event_batch:',
}

local function key_for(name)
    return function(node)
        return PREFIX .. name .. node
    end
end

local bind_key = key_for('node_bind:')
local size_key = key_for('mqtt_size:')
local heartbeat_key = key_for('beat:mqtt:')
local rev_key = key_for('mqtt_fleet:rev:')
local set_key = key_for('mqtt_fleet:set:')
local changed_key = key_for('mqtt_fleet:changed:')
local facts_key = key_for('mqtt_fleet:facts:')
local operation_key = key_for('mqtt_fleet:operation:')
local operation_ids_key = key_for('mqtt_fleet:operation_ids:')

-- The incarnation in the node's heartbeat, or nil. A value that is not text is ignored.
local function heartbeat_of(node)
    local heartbeat = redis.pcall('GET', heartbeat_key(node))
    return type(heartbeat) == 'string' and heartbeat or nil
end

local time = redis.call('TIME')
local NOW_US = tonumber(time[1]) * 1000000 + tonumber(time[2])
local NOW_MS = math.floor(NOW_US / 1000)


-- Resources of the fleet: documents with a version, which every node applies. Their revision grows
-- with each change, so that the heartbeat can tell nodes that there is something to read.

local function resources_revision()
    return to_integer(redis.pcall('GET', RESOURCES)) or 0
end

-- A time in ms, like versions: none is used twice, even if Redis loses the last one.
local function next_resources_revision()
    local revision = version_after(resources_revision())
    redis.call('SET', RESOURCES, string.format('%.0f', revision))
    return revision
end

-- Stored as a line "version was type" and the document. nil: no such sink, or written by hand.
local function sink_of(name)
    local text = redis.call('HGET', SINKS, name) or ''
    local version, was, type_of, document = string.match(text, '^(%d+) (%d+) (%S+)\n(.*)$')
    if version then
        return { version = to_integer(version), was = to_integer(was), type = type_of, document = document }
    end
end

local function write_sink(name, sink)
    redis.call('HSET', SINKS, name, string.format('%.0f %.0f %s\n', sink.version, sink.was,
        sink.type) .. sink.document)
end

-- Stored as a line "version was" and the document. nil: none, or written by hand.
local function routes_of_fleet()
    local text = redis.call('GET', ROUTES) or ''
    local version, was, document = string.match(text, '^(%d+) (%d+)\n(.*)$')
    if version then
        return { version = to_integer(version), was = to_integer(was), document = document }
    end
end

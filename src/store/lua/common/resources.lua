-- Resources of the fleet: documents with a version, which every node applies. Their revision grows
-- with each change, so that the heartbeat can tell nodes that there is something to read. One table,
-- because a script has at most 200 local variables.

local resources = { hashes = { sinks = SINKS, profiles = PROFILES } }

function resources.revision()
    return to_integer(redis.pcall('GET', RESOURCES)) or 0
end

-- A time in ms, like versions: none is used twice, even if Redis loses the last one.
function resources.next_revision()
    local revision = version_after(resources.revision())
    redis.call('SET', RESOURCES, string.format('%.0f', revision))
    return revision
end

-- Stored as a line "version was type" and the document. nil: no such resource, or written by hand.
function resources.of(hash, name)
    local text = redis.call('HGET', hash, name) or ''
    local version, was, type_of, document = string.match(text, '^(%d+) (%d+) (%S+)\n(.*)$')
    if version then
        return { version = to_integer(version), was = to_integer(was), type = type_of, document = document }
    end
end

function resources.write(hash, name, resource)
    redis.call('HSET', hash, name, string.format('%.0f %.0f %s\n', resource.version, resource.was,
        resource.type) .. resource.document)
end

function resources.bytes_of_others(hash, name)
    local all, bytes = redis.call('HGETALL', hash), 0
    for i = 1, #all, 2 do
        bytes = bytes + (all[i] == name and 0 or #all[i + 1])
    end
    return bytes
end

-- Stored as a line "version was" and the document. nil: none, or written by hand.
function resources.routes()
    local text = redis.call('GET', ROUTES) or ''
    local version, was, document = string.match(text, '^(%d+) (%d+)\n(.*)$')
    if version then
        return { version = to_integer(version), was = to_integer(was), document = document }
    end
end

-- drain: live -> draining or back. Remembered for the name, so that it outlasts a restart. ARGV[2...]:
-- node, draining (1 or 0).
-- Refused: no mqfleet node of that name ('NOT_FOUND', unless it is remembered as drained and is not to
-- be any more); it is dead or leaving ('REFUSED').
-- Answers: 'OK' | 'NOT_FOUND' | 'REFUSED'.

local REMEMBERED_MAX = 200 -- beyond, those that are not registered are forgotten

local name, drains = ARGV[2], ARGV[3] == '1'
check()
local drained = of_type(LEVELLING.DRAINED, 'hash')
local forgotten = not drains and redis.call('HDEL', drained, name) == 1
local node = node_of(name)
if not node or node.incarnation == '' then
    return { forgotten and 'OK' or 'NOT_FOUND' }
end
if node.state == 'dead' or node.state == 'leaving' then
    return { forgotten and 'OK' or 'REFUSED' }
end

local function remember()
    local all = redis.call('HLEN', drained) >= REMEMBERED_MAX and redis.call('HGETALL', drained) or {}
    for i = 1, #all, 2 do
        if redis.call('HEXISTS', REGISTER, all[i]) == 0 then
            redis.call('HDEL', drained, all[i])
        end
    end
    redis.call('HSET', drained, name, NOW_MS)
end

if drains then
    remember()
end
local state = drains and 'draining' or 'live'
if node.state ~= state then
    node.state = state
    set_node(node)
    append_event('node', name, state, drains and 'releases its clients' or 'accepts clients again')
    wake_node(name)
    wake()
end
return { 'OK' }

-- leave: removes a node that owns nothing from the register. ARGV[2...]: node, incarnation.
-- Refused: it still owns ids.
-- Answers: 'OK' (also when removed already, or replaced by another incarnation) | 'REFUSED'.

local name = ARGV[2]
check()
local node = node_of(name)
if not node or node.incarnation ~= ARGV[3] then
    return { 'OK' }
end
if redis.call('LLEN', bind_key(name)) > 0 then
    return { 'REFUSED' }
end
remove_node(name)
redis.pcall('HDEL', LEVELLING.VANISHED, name) -- whatever it was before, it has left now
append_event('node', name, 'gone', 'left')
return { 'OK' }

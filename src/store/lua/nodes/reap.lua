-- reap: up to a batch of a dead node's ids, owned -> waiting; after the last the node is removed.
-- ARGV[2...]: node, incarnation ('' for an entry of another program).
-- Refused: the node is not dead, or has another incarnation. Ids that another node owns only leave
-- the list.
-- Answers: 'OK', how many moved, finished (1 or 0) | 'REFUSED'.

local name = ARGV[2]
check()
redis.call('LLEN', bind_key(name))
local node = node_of(name)
if node and (node.state ~= 'dead' or node.incarnation ~= ARGV[3]) then
    return { 'REFUSED' }
end
if has_heartbeat(name, node) then
    return { 'REFUSED' }
end
local moved = take_ids_from(name)
if redis.call('LLEN', bind_key(name)) > 0 then
    return { 'OK', moved, 0 }
end
remove_node(name)
if node then
    append_event('node', name, 'gone', 'fenced; all its clients are reaped')
end
return { 'OK', moved, 1 }

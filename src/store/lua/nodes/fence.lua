-- fence: a node without a heartbeat is marked dead. ARGV[2...]: caller, its incarnation, target,
-- its incarnation ('' for an entry of another program).
-- Refused: the caller has no heartbeat itself; the target has one, or has another incarnation.
-- Answers: 'OK' (also when dead or removed already) | 'REFUSED'.

local caller, target = ARGV[2], ARGV[4]
check()
if not member(caller, ARGV[3]) or heartbeat_of(caller) ~= ARGV[3] then
    return { 'REFUSED' }
end
local node = node_of(target)
if has_heartbeat(target, node) then
    return { 'REFUSED' }
end
if not node then
    return { 'OK' }
end
if node.incarnation ~= ARGV[5] then
    return { 'REFUSED' }
end
if node.state ~= 'dead' then
    node.state = 'dead'
    set_node(node)
    remember_fenced(node.incarnation)
    remember_vanished(target)
    append_event('node', target, 'dead', 'fenced: no heartbeat; its clients go to other nodes')
end
return { 'OK' }

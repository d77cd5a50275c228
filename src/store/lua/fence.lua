-- fence: a node that does not beat is marked dead. ARGV[2...]: caller, its incarnation, target, its
-- incarnation ('' for an entry that is not ours).
-- Refused: the caller does not beat itself; the target beats, or has another incarnation by now.
-- Answers: 'OK' (also when dead or gone already) | 'REFUSED'.

local caller, target = ARGV[2], ARGV[4]
check()
if not member(caller, ARGV[3]) or beat_of(caller) ~= ARGV[3] then
    return { 'REFUSED' }
end
local node = node_of(target)
if beats(target, node) then
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
    outlaw(node.incarnation)
end
return { 'OK' }

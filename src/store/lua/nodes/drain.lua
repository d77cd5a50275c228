-- drain: live -> draining or back. ARGV[2...]: node, draining (1 or 0).
-- Refused: no mqfleet node of that name ('NOT_FOUND'); it is dead or leaving ('REFUSED').
-- Answers: 'OK' | 'NOT_FOUND' | 'REFUSED'.

local name = ARGV[2]
check()
local node = node_of(name)
if not node or node.incarnation == '' then
    return { 'NOT_FOUND' }
end
if node.state == 'dead' or node.state == 'leaving' then
    return { 'REFUSED' }
end
local state = ARGV[3] == '1' and 'draining' or 'live'
if node.state ~= state then
    node.state = state
    set_node(node)
    wake_node(name)
    wake()
end
return { 'OK' }

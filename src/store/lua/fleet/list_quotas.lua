-- list_quotas: the quotas of the fleet. ARGV[2...]: scopes of which the number of clients is wanted.
-- Answers: 'OK', version (0: none were ever set), document ('': none), a number for each scope, and what
-- each node reported lately of the rates (name, report).

local stored = quotas.stored()
local numbers = {}
for i = 2, #ARGV do
    numbers[#numbers + 1] = quotas.clients(ARGV[i])
end
return { 'OK', stored and stored.version or 0, stored and stored.document or '', numbers,
    quotas.uses(false) }

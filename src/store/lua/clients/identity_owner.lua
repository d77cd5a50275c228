-- identity_owner: the id that has an identity; changes nothing. ARGV[2]: identity.
-- Answers: 'OK', id | 'NOT_FOUND'.

local holder = identity_holder(ARGV[2], '')
if holder then
    return { 'OK', holder }
end
return { 'NOT_FOUND' }

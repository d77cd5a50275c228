-- identity_owner: the id that has an identity; changes nothing. ARGV[2]: identity.
-- Answers: 'OK', id | 'NOT_FOUND'.

local other_id = identity_owner(ARGV[2], '')
if other_id then
    return { 'OK', other_id }
end
return { 'NOT_FOUND' }

-- said: accounts. Of each, of one moment: posted, charged by rows, entered, and spent as its balance says (posted
-- where there is no balance of just that account).
local lost = guard()
if lost then return lost end

local posted, charged, entered =
  many(POSTED, said.accounts), many(CHARGED, said.accounts), many(ENTERED, said.accounts)
local packed, found = many(BUCKET, said.accounts), {}
for i, account in ipairs(said.accounts) do
  local b, had = packed[i] and unpack_of(packed[i]), tonumber(posted[i] or 0)
  found[i] = {account, had, tonumber(charged[i] or 0), tonumber(entered[i] or 0),
    b and b[KIND] == MONEY and b[SPENT] or had}
end
return finish(found)

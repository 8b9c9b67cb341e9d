"""Print credentials as AWS's `credential_process` does, and log the request.

Usage: credential_process.py <file with "key id" and "secret"> <log file>
"""

import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

key_id, secret = Path(sys.argv[1]).read_text().split()
with open(sys.argv[2], "a") as log:
    log.write(f"{key_id}\n")
# Within the minutes before the end in which the AWS tools ask again before every request.
expiration = datetime.now(timezone.utc) + timedelta(minutes=1)
print(
    json.dumps(
        {
            "Version": 1,
            "AccessKeyId": key_id,
            "SecretAccessKey": secret,
            "Expiration": expiration.isoformat(),
        }
    )
)

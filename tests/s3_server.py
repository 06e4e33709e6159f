"""An S3 server on loopback that checks who asks: moto's, in a process of its own.

Prints one line of JSON, ``{"endpoint", "bucket", "key", "secret"}``, and serves until its standard
input ends, so that it never outlives the tests.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "3"  # the three below; from then on keys are checked

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "carryover-tests"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*"}]}
POLICY["Statement"][0]["Resource"] = "*"  # type: ignore[index]


def main() -> None:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"

    def client(service: str, key: str, secret: str) -> object:
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )

    iam = client("iam", "nobody", "nothing")
    iam.create_user(UserName="tests")
    policy = json.dumps(POLICY)
    iam.put_user_policy(UserName="tests", PolicyName="all", PolicyDocument=policy)
    made = iam.create_access_key(UserName="tests")["AccessKey"]
    key, secret = made["AccessKeyId"], made["SecretAccessKey"]
    client("s3", key, secret).create_bucket(Bucket=BUCKET)
    print(json.dumps({"endpoint": endpoint, "bucket": BUCKET, "key": key, "secret": secret}))
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()

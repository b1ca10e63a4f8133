"""The plugin `resumable`: streams that outlive a broken connection.

May import: `proxy.kernel`.
"""

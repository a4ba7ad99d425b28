// Package provisioningtest runs a coordinator inside a test and speaks wire to it as boxes do: sealed enrolment through nodeapi.Public,
// watching and reporting through nodeapi.Control. No sockets are used, so that it runs under testing/synctest.
//
// State: that of the test.
package provisioningtest
